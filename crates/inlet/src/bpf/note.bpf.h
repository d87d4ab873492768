/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The note that the lookup makes of a datagram whose answers must leave from elsewhere than its socket is bound to.
 */
#pragma once
#include "answers.bpf.h"

static __always_inline void add_port(__u64 words[PORT_WORDS], __u32 port)
{
	if (!has_port(words, port))
		__sync_fetch_and_or(port_word(words, port), 1ULL << (port & 63));
}

/* Lets the programs on the way out look at what this socket sends. */
static __always_inline void show_port(__u32 own, __u32 asked)
{
	__u32 zero = 0;
	struct bound_ports *bound = bpf_map_lookup_elem(&inlet_bound, &zero);

	if (!bound)
		return;
	add_port(bound->address, own);
	if (own != asked)
		add_port(bound->port, own);
}

/* What programs on the way out keep of the table is out of date. */
static __always_inline void tell_change(void)
{
	__u32 zero = 0;
	struct bound_ports *bound = bpf_map_lookup_elem(&inlet_bound, &zero);

	if (bound)
		__sync_fetch_and_add(&bound->changes, 1);
}

/* The remote end of a packet, and where it was sent. */
static __always_inline void set_flow(struct bpf_sk_lookup *ctx, struct flow *flow, __u32 local[4])
{
	flow->remote_port = ctx->remote_port;
	if (ctx->family == AF_INET) {
		map_address(flow->remote, ctx->remote_ip4);
		map_address(local, ctx->local_ip4);
		asm volatile("" ::: "memory");
	} else {
		COPY_ADDRESS(flow->remote, ctx->remote_ip6);
		COPY_ADDRESS(local, ctx->local_ip6);
		asm volatile("" ::: "memory");
	}
}

/* Where the socket is bound, as the other end of the flow. */
static __always_inline void bound_at(struct bpf_sk_lookup *ctx, struct bpf_sock *sk, struct flow *flow)
{
	flow->own_port = sk->src_port;
	if (ctx->family == AF_INET) {
		map_address(flow->own, sk->src_ip4);
		asm volatile("" ::: "memory");
	} else {
		COPY_ADDRESS(flow->own, sk->src_ip6);
		asm volatile("" ::: "memory");
	}
}

/* A flow that asks at another address than before: a program that chooses the address of its answers itself has the
 * port of each. */
static __always_inline void keep_apart(struct flow *flow, struct asked *asked)
{
	COPY_ADDRESS(flow->own, asked->addr);
	if (!bpf_map_update_elem(&inlet_flows, flow, asked, BPF_NOEXIST))
		COUNT(apart);
	else
		bpf_map_update_elem(&inlet_flows, flow, asked, BPF_ANY);
}

/* Notes where a datagram was sent that the socket has got, and where flows stay, that it wants to know of answers. Most
 * are of a flow that is known: one probe. */
static __noinline int note_flow(struct bpf_sk_lookup *ctx, struct bpf_sock *sk, __u64 now)
{
	struct asked asked = {.port = ctx->local_port, .interface = ctx->ingress_ifindex, .sent = now}, before;
	struct flow flow;
	struct asked *known;
	long err;

	set_flow(ctx, &flow, asked.addr);
	bound_at(ctx, sk, &flow);
	known = bpf_map_lookup_elem(&inlet_flows, &flow);
	if (known && known->port == asked.port && same_address(known->addr, asked.addr)) {
		if (now && !known->sent)
			known->sent = now;
		if (known->interface != asked.interface)
			known->interface = asked.interface;
		return 0;
	}
	if (!known && !now && flow.own_port == asked.port && same_address(flow.own, asked.addr))
		return 0;
	show_port(flow.own_port, asked.port);
	if (known)
		before = *known;
	/* Each entry is counted once, also when two processors note a flow at the same time. So what is counted and not
	 * there was forgotten. */
	err = bpf_map_update_elem(&inlet_flows, &flow, &asked, known ? BPF_ANY : BPF_NOEXIST);
	if (err && err != -EEXIST) {
		COUNT(unnoted);
		return 0;
	}
	if (!known) {
		if (!err)
			COUNT(noted);
		return 0;
	}
	COUNT(changed);
	tell_change();
	if (!same_address(before.addr, asked.addr)) {
		keep_apart(&flow, &before);
		keep_apart(&flow, &asked);
	}
	return 0;
}
