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
	__u32 *changes = bpf_map_lookup_elem(&inlet_changes, &zero);

	if (changes)
		__sync_fetch_and_add(changes, 1);
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
 * port of each. The address that the socket is bound to is the key of the flow already. */
static __always_inline void keep_apart(struct flow *flow, struct asked *asked)
{
	if (same_address(flow->own, asked->addr))
		return;
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

/* From now on a flow asks here, if it is known and asked elsewhere: then 1. */
static __noinline int ask_here(struct flow *flow, struct asked *here)
{
	const struct asked *known = bpf_map_lookup_elem(&inlet_flows, flow);
	struct asked before;

	if (!known || (known->port == here->port && same_address(known->addr, here->addr)))
		return 0;
	before = *known;
	here->sent = before.sent;
	if (bpf_map_update_elem(&inlet_flows, flow, here, BPF_EXIST))
		return 0;
	tell_change();
	if (!same_address(before.addr, here->addr))
		keep_apart(flow, &before);
	return 1;
}

/* A datagram to a socket whose answers leave as it is bound. It may have been asked by this remote end before its
 * service said so. */
static __noinline int answer_as_bound(struct bpf_sk_lookup *ctx, struct bpf_sock *sk)
{
	struct asked asked = {};
	struct flow flow = {};
	__u32 local[4];

	set_flow(ctx, &flow, local);
	bound_at(ctx, sk, &flow);
	COPY_ADDRESS(asked.addr, flow.own);
	asked.port = flow.own_port;
	ask_here(&flow, &asked);
	/* What a program names itself has the port of the socket too. */
	COPY_ADDRESS(flow.own, local);
	COPY_ADDRESS(asked.addr, local);
	return ask_here(&flow, &asked);
}

/* A datagram that no rule takes, to a port of a socket that others reach by rules. When the remote end asked it by a
 * rule before, it does no more. The socket is bound to this address, or to any. */
static __noinline int answer_as_usual(struct bpf_sk_lookup *ctx)
{
	struct asked asked = {.port = ctx->local_port, .interface = ctx->ingress_ifindex};
	struct flow flow = {.own_port = ctx->local_port};
	int changed;

	set_flow(ctx, &flow, asked.addr);
	COPY_ADDRESS(flow.own, asked.addr);
	changed = ask_here(&flow, &asked);
	COPY_ADDRESS(flow.own, asked.addr);
	flow.own[3] = 0;
	if (ctx->family == AF_INET6) {
		flow.own[0] = 0;
		flow.own[1] = 0;
		flow.own[2] = 0;
	}
	changed |= ask_here(&flow, &asked);
	if (changed)
		COUNT(changed);
	return 0;
}

/* Whether a socket of this port was asked elsewhere than it is bound to. */
static __always_inline bool is_noted_port(__u32 port)
{
	__u32 zero = 0;
	struct bound_ports *bound = bpf_map_lookup_elem(&inlet_bound, &zero);

	return bound && has_port(bound->address, port);
}
