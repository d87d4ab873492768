/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Hands the mark of a packet over to the look-up.
 *
 * Runs at LOCAL_IN, behind whatever sets marks there. From here to the look-up all is done in one go on this CPU. A
 * link to netfilter cannot run another program later, so nothing here depends on the rules.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netfilter.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "kernel.bpf.h"
#include "marks.bpf.h"

/* How many extension headers of IPv6 are passed over. */
#define MAX_EXTENSIONS 8

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *packet) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *packet, __u32 offset, void *buffer, __u32 size) __ksym;

struct ports {
	__be16 remote;
	__be16 local;
};

struct extension {
	__u8 next;
	__u8 length; /* beyond 8 bytes, in units of as many */
};

/* Whether there is a socket that receives the packet without a look-up: that of an established connection. One in
 * TIME_WAIT makes way for a new connection. */
static __always_inline bool has_socket(struct sk_buff *skb)
{
	struct sock *sk = skb->sk;

	return sk && sk->__sk_common.skc_state != TCP_TIME_WAIT;
}

/* Notes protocol and ports. */
static __always_inline bool note_ports(struct bpf_dynptr *packet, __u32 offset, __u8 protocol, struct marked *marked)
{
	struct ports buffer;
	const struct ports *ports;

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return false;
	ports = bpf_dynptr_slice(packet, offset, &buffer, sizeof(buffer));
	if (!ports)
		return false;
	marked->ports = bpf_ntohs(ports->local) | (__u32)ports->remote << 16;
	marked->kind |= MARKED | (protocol == IPPROTO_UDP) << MARKED_UDP_SHIFT;
	return true;
}

static __always_inline bool note_v4(struct bpf_dynptr *packet, struct marked *marked)
{
	struct iphdr buffer;
	const struct iphdr *ip = bpf_dynptr_slice(packet, 0, &buffer, sizeof(buffer));

	if (!ip)
		return false;
	marked->local[0] = ip->daddr;
	marked->remote[0] = ip->saddr;
	return note_ports(packet, ip->ihl * 4, ip->protocol, marked);
}

/* Fragments have no ports that are surely theirs: unless netfilter has joined them, their mark is not known. */
static __always_inline bool note_v6(struct bpf_dynptr *packet, struct marked *marked)
{
	struct ipv6hdr buffer;
	const struct ipv6hdr *ip = bpf_dynptr_slice(packet, 0, &buffer, sizeof(buffer));
	__u32 offset = sizeof(*ip);
	__u8 next;

	if (!ip)
		return false;
	__builtin_memcpy(marked->local, &ip->daddr, sizeof(marked->local));
	__builtin_memcpy(marked->remote, &ip->saddr, sizeof(marked->remote));
	marked->kind = 1 << MARKED_V6_SHIFT;
	next = ip->nexthdr;
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		struct extension extension;
		const struct extension *found;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS)
			break;
		found = bpf_dynptr_slice(packet, offset, &extension, sizeof(extension));
		if (!found)
			return false;
		next = found->next;
		offset += (found->length + 1) * 8;
	}
	return note_ports(packet, offset, next, marked);
}

SEC("netfilter")
int inlet_mark(struct bpf_nf_ctx *ctx)
{
	struct sk_buff *skb = ctx->skb;
	struct bpf_dynptr packet;
	struct marked marked = {}, *left;
	bool noted;

	if (has_socket(skb) || bpf_dynptr_from_skb((struct __sk_buff *)skb, 0, &packet))
		return NF_ACCEPT;
	noted = ctx->state->pf == NFPROTO_IPV6 ? note_v6(&packet, &marked) : note_v4(&packet, &marked);
	left = left_here();
	if (noted && left) {
		marked.mark = skb->mark;
		*left = marked;
	}
	return NF_ACCEPT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
