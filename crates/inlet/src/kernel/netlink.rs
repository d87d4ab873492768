//! Netlink: one request and its answers. What is asked and what the answers mean is for others to know.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// A connection to one of the kernel's netlink families, in the network namespace of the thread that made it.
pub(crate) struct Netlink(Socket);

impl Netlink {
    /// Connects to a family, such as `NETLINK_ROUTE`.
    pub(crate) fn connect(family: isize) -> io::Result<Self> {
        let mut socket = Socket::new(family)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Asks for a list, and hands each entry to `each`.
    pub(crate) fn dump<M>(&self, request: M, each: impl FnMut(M)) -> io::Result<()>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.send(request, NLM_F_DUMP)?;
        self.receive(each)
    }

    /// Asks for one thing or has it done. `flags` are those of the request beside the usual ones.
    pub(crate) fn request<M>(&self, request: M, flags: u16, each: impl FnMut(M)) -> io::Result<()>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.send(request, NLM_F_ACK | flags)?;
        self.receive(each)
    }

    fn send<M: NetlinkSerializable>(&self, request: M, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        self.0.send(&buffer, 0).map(drop)
    }

    /// Reads answers up to the end of the list or to the acknowledgement.
    fn receive<M: NetlinkDeserializable>(&self, mut each: impl FnMut(M)) -> io::Result<()> {
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<M>::deserialize(rest).map_err(io::Error::other)?;
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => each(answer),
                    NetlinkPayload::Done(_) => return Ok(()),
                    // An error without a number is an acknowledgement.
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
                let len = (message.header.length as usize).next_multiple_of(4).min(rest.len());
                if len == 0 {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                rest = &rest[len..];
            }
        }
    }
}
