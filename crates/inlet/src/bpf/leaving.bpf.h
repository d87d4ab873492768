/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where the UDP header of a packet on its way out lies.
 */
#pragma once
#include "answers.bpf.h"

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

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8

/* The version of IP; 0 for what is none. A packet whose VLAN tag stands in it has the protocol of the tag. */
static __always_inline int version_of(struct __sk_buff *skb)
{
	__u8 first;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		return 4;
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return 6;
	if (skb->protocol != bpf_htons(ETH_P_8021Q) && skb->protocol != bpf_htons(ETH_P_8021AD))
		return 0;
	if (bpf_skb_load_bytes_relative(skb, 0, &first, sizeof(first), BPF_HDR_START_NET))
		return 0;
	return first >> 4 == 4 || first >> 4 == 6 ? first >> 4 : 0;
}

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
