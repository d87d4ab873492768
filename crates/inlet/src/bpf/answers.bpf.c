/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where answers over UDP leave from.
 *
 * inlet_answer4 and inlet_answer6 run for every send of an unconnected UDP socket, at the root of the control groups,
 * before routing and netfilter. They set the source address. inlet_answer_port runs for every packet that leaves
 * through an interface. It sets the source port, which no socket can choose for one datagram. Both find the place that
 * the lookup noted (note.bpf.h), and leave everything else as it is.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "answers.bpf.h"

#define AF_INET 2
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

/* The instance that these programs are for: control groups span network namespaces. */
struct answering {
	__u64 netns;
};

const volatile struct answering answering = {};

/* Keeps when an answer was sent, where that counts. */
static __always_inline void tell_sent(struct asked *asked)
{
	__u64 now;

	if (!asked->sent)
		return;
	now = bpf_ktime_get_coarse_ns();
	if (now - asked->sent > OFTEN)
		asked->sent = now;
}

/* Whether answers may have to leave from elsewhere: one test for the sends of others. */
static __always_inline bool may_answer(struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	__u32 zero = 0;
	struct bound_ports *bound = bpf_map_lookup_elem(&inlet_bound, &zero);

	return bound && has_port(bound->address, sk->src_port) && bpf_get_netns_cookie(ctx) == answering.netns;
}

SEC("cgroup/sendmsg4")
int inlet_answer4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct asked *asked;
	struct flow flow = {};

	if (!sk || !may_answer(ctx, sk))
		return 1;
	map_address(flow.remote, ctx->user_ip4);
	map_address(flow.own, sk->src_ip4);
	flow.remote_port = ctx->user_port;
	flow.own_port = sk->src_port;
	asked = bpf_map_lookup_elem(&inlet_flows, &flow);
	if (!asked)
		return 1;
	tell_sent(asked);
	/* What a socket is bound to stands there before anybody chooses. Anything else is the program's own choice. */
	if (ctx->msg_src_ip4 && ctx->msg_src_ip4 != sk->src_ip4)
		return 1;
	if (asked->addr[3] != ctx->msg_src_ip4) {
		ctx->msg_src_ip4 = asked->addr[3];
		COUNT(addressed);
	}
	return 1;
}

SEC("cgroup/sendmsg6")
int inlet_answer6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct asked *asked;
	struct flow flow = {};
	__u32 chosen[4];

	if (!sk || !may_answer(ctx, sk))
		return 1;
	COPY_ADDRESS(chosen, ctx->msg_src_ip6);
	COPY_ADDRESS(flow.own, sk->src_ip6);
	COPY_ADDRESS(flow.remote, ctx->user_ip6);
	flow.remote_port = ctx->user_port;
	flow.own_port = sk->src_port;
	asked = bpf_map_lookup_elem(&inlet_flows, &flow);
	if (!asked)
		return 1;
	tell_sent(asked);
	if ((chosen[0] | chosen[1] | chosen[2] | chosen[3]) && !same_address(chosen, flow.own))
		return 1;
	if (!same_address(asked->addr, chosen)) {
		COPY_ADDRESS(ctx->msg_src_ip6, asked->addr);
		COUNT(addressed);
	}
	return 1;
}

/* The headers of IPv4 (RFC 791) and IPv6 (RFC 8200), and where their fields lie. */
struct ip4 {
	__u8 version_length;
	__u8 service;
	__u16 total;
	__u16 id;
	__u16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__u32 source;
	__u32 destination;
};

struct ip6 {
	__u32 label;
	__u16 payload;
	__u8 next;
	__u8 hops;
	__u32 source[4];
	__u32 destination[4];
};

#define IP4_OFFSET 0x1fff
#define IP6_OFFSET 0xfff8
#define EXTENSIONS 6

/* The headers that may stand between that of IPv6 and that of UDP. */
enum extension {
	HOP_BY_HOP = 0,
	ROUTING = 43,
	FRAGMENT = 44,
	DESTINATION = 60,
};

/* The packet goes on to the next program or filter: TCX_NEXT for tcx, TC_ACT_UNSPEC for clsact. */
#define NEXT -1

/* A packet on its way out: where its UDP header lies, from the network header on and from the data on. */
struct leaving {
	__u32 source[4];
	__u32 remote[4];
	__u32 network; /* where the network header begins */
	__u32 udp;     /* from there on */
};

/* How long the headers before the network header are: an interface may have none, and VLAN makes them longer. The
 * length that the network header gives is that of the rest of the packet, also where it is to be segmented. */
static __always_inline __u32 before_network(struct __sk_buff *skb, __u32 rest)
{
	return skb->len - rest;
}

/* IPv4: false for what has no UDP header, which are the later fragments too. */
static __always_inline bool read4(struct __sk_buff *skb, struct leaving *leaving)
{
	struct ip4 ip;

	if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
		return false;
	if (ip.protocol != IPPROTO_UDP || ip.fragment & bpf_htons(IP4_OFFSET))
		return false;
	map_address(leaving->source, ip.source);
	map_address(leaving->remote, ip.destination);
	leaving->network = before_network(skb, bpf_ntohs(ip.total));
	leaving->udp = (ip.version_length & 0xf) * 4;
	return true;
}

/* IPv6, with the headers between its own and that of UDP. */
static __always_inline bool read6(struct __sk_buff *skb, struct leaving *leaving)
{
	struct ip6 ip;
	__u32 at = sizeof(ip);
	__u8 next;

	if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
		return false;
	next = ip.next;
	for (int i = 0; i < EXTENSIONS && next != IPPROTO_UDP; i++) {
		struct {
			__u8 next;
			__u8 length;
			__u16 offset;
		} more;

		if (next != HOP_BY_HOP && next != ROUTING && next != DESTINATION && next != FRAGMENT)
			return false;
		if (bpf_skb_load_bytes_relative(skb, at, &more, sizeof(more), BPF_HDR_START_NET))
			return false;
		if (next == FRAGMENT && more.offset & bpf_htons(IP6_OFFSET))
			return false;
		at += next == FRAGMENT ? 8 : (more.length + 1) * 8;
		next = more.next;
	}
	if (next != IPPROTO_UDP)
		return false;
	COPY_ADDRESS(leaving->source, ip.source);
	COPY_ADDRESS(leaving->remote, ip.destination);
	leaving->network = before_network(skb, sizeof(ip) + bpf_ntohs(ip.payload));
	leaving->udp = at;
	return true;
}

/* Where a packet of this source was asked. Usually it is where the flow asked last; a program that chooses its source
 * itself may answer at another address. */
static __always_inline const struct asked *asked_of(struct flow *flow, const struct leaving *leaving)
{
	const struct asked *asked = bpf_map_lookup_elem(&inlet_flows, flow);

	if (asked && !same_address(asked->addr, leaving->source)) {
		COPY_ADDRESS(flow->own, leaving->source);
		asked = bpf_map_lookup_elem(&inlet_flows, flow);
	}
	return asked;
}

/* Sets the source port. A packet that is yet to be segmented has the seed of its checksum in the field, without the
 * port; in any other the sum is corrected, where there is one. */
static __always_inline void set_source_port(struct __sk_buff *skb, __u32 udp, __u16 old, __u16 new)
{
	if (!skb->gso_size)
		bpf_l4_csum_replace(skb, udp + 6, old, new, sizeof(new) | BPF_F_MARK_MANGLED_0);
	bpf_skb_store_bytes(skb, udp, &new, sizeof(new), 0);
}

SEC("tc")
int inlet_answer_port(struct __sk_buff *skb)
{
	bool is_v4 = skb->protocol == bpf_htons(ETH_P_IP);
	struct bpf_sock *sk = skb->sk;
	struct leaving leaving = {};
	struct bound_ports *bound;
	const struct asked *asked;
	struct flow flow = {};
	__u32 zero = 0, udp;
	__u16 ports[2], new;

	/* A packet of another namespace has no socket here. */
	if (!sk || !(is_v4 || skb->protocol == bpf_htons(ETH_P_IPV6)))
		return NEXT;
	sk = bpf_sk_fullsock(sk);
	bound = bpf_map_lookup_elem(&inlet_bound, &zero);
	if (!sk || !bound || sk->protocol != IPPROTO_UDP || !has_port(bound->port, sk->src_port))
		return NEXT;
	if (is_v4) {
		if (!read4(skb, &leaving))
			return NEXT;
		map_address(flow.own, sk->src_ip4);
	} else {
		if (!read6(skb, &leaving))
			return NEXT;
		COPY_ADDRESS(flow.own, sk->src_ip6);
	}
	udp = leaving.network + leaving.udp;
	if (bpf_skb_load_bytes(skb, udp, ports, sizeof(ports)) || ports[0] != bpf_htons(sk->src_port))
		return NEXT;
	flow.own_port = sk->src_port;
	flow.remote_port = ports[1];
	COPY_ADDRESS(flow.remote, leaving.remote);
	asked = asked_of(&flow, &leaving);
	if (!asked || !same_address(asked->addr, leaving.source) || asked->port == flow.own_port)
		return NEXT;
	new = bpf_htons(asked->port);
	set_source_port(skb, udp, ports[0], new);
	COUNT(rewritten);
	return NEXT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
