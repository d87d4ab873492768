/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a program for sends hands to the program for packets: the source port of the answer that this processor sends.
 *
 * The packet nearly always follows its send on the same processor, and needs no second probe of the table then. The
 * slot has the whole key of the table, and counts for one packet, while no flow asks elsewhere. Any other packet asks
 * the table.
 */
#pragma once
#include "leaving.bpf.h"

struct handed {
	__u32 own[4]; /* what the socket is bound to */
	__u32 source[4];
	__u32 remote[4];
	__u16 remote_port; /* network order */
	__u16 own_port;	   /* 0: there is nothing */
	__u16 port;
	__u16 bare;	/* the question came in through an interface without the program that sets ports */
	__u32 changes;	/* of the table, as it was before it was asked */
	__u32 together; /* the sum of what one send wrote: another one may come in between */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct handed);
} inlet_handed SEC(".maps");

static __always_inline struct handed *handed_slot(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&inlet_handed, &zero);
}

static __always_inline __u32 mixed(__u32 so_far, __u32 word)
{
	return so_far * 31 + word;
}

/* One number of all that is in the slot. */
static __always_inline __u32 together(const struct handed *sent)
{
	__u32 all = mixed(sent->remote_port << 16 | sent->own_port, sent->port << 16 | sent->bare);

	for (int i = 0; i < 4; i++)
		all = mixed(mixed(mixed(all, sent->own[i]), sent->source[i]), sent->remote[i]);
	return mixed(all, sent->changes);
}

/* The usual packet: a header of Ethernet, one of IP without anything between it and UDP, one of UDP. */
#define ETHERNET 14

struct usual4 {
	__u8 ethernet[ETHERNET];
	struct ip4 ip;
	__u16 ports[2];
} __attribute__((packed));

struct usual6 {
	__u8 ethernet[ETHERNET];
	struct ip6 ip;
	__u16 ports[2];
} __attribute__((packed));

/* Whether a packet is the usual one of IPv4, and that which was sent. */
static __always_inline bool is_sent4(struct __sk_buff *skb, struct bpf_sock *sk, const struct handed *sent)
{
	const struct usual4 *usual = (void *)(long)skb->data;

	if (sk->src_ip4 != sent->own[3] || (void *)(usual + 1) > (void *)(long)skb->data_end)
		return false;
	return usual->ip.version_length == 0x45 && usual->ip.protocol == IPPROTO_UDP &&
	       bpf_ntohs(usual->ip.total) == skb->len - ETHERNET && !(usual->ip.fragment & bpf_htons(IP4_OFFSET)) &&
	       usual->ip.source == sent->source[3] && usual->ip.destination == sent->remote[3] &&
	       usual->ports[0] == bpf_htons(sent->own_port) && usual->ports[1] == sent->remote_port &&
	       sent->source[2] == bpf_htonl(0xffff);
}

/* The same of IPv6. */
static __always_inline bool is_sent6(struct __sk_buff *skb, struct bpf_sock *sk, const struct handed *sent)
{
	const struct usual6 *usual = (void *)(long)skb->data;
	__u32 own[4];

	COPY_ADDRESS(own, sk->src_ip6);
	if (!same_address(own, sent->own))
		return false;

	if ((void *)(usual + 1) > (void *)(long)skb->data_end)
		return false;
	return usual->ip.next == IPPROTO_UDP &&
	       bpf_ntohs(usual->ip.payload) == skb->len - ETHERNET - sizeof(struct ip6) &&
	       same_address(usual->ip.source, sent->source) && same_address(usual->ip.destination, sent->remote) &&
	       usual->ports[0] == bpf_htons(sent->own_port) && usual->ports[1] == sent->remote_port;
}
