import socket,struct
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.setsockopt(0,19,1); s.setsockopt(0,20,1); s.bind(("127.0.0.1",9000))
while True:
    d,anc,f,a=s.recvmsg(200,200)
    for l,t,v in anc:
        if t==20:
            port,=struct.unpack("!H",v[2:4]); ip=socket.inet_ntoa(v[4:8]); print("orig",ip,port,"from",a,flush=True)
            r=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); r.setsockopt(1,2,1); r.setsockopt(0,19,1); r.bind((ip,port)); r.sendto(b"answer",a); r.close()
