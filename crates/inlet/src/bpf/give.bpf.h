/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet is given to a socket: to the one in a slot, or to the one where its flow stays.
 */
#pragma once
#include "lookup.bpf.h"
#include "sticky.bpf.h"

/* Whether this is a packet, and not somebody who asks (BPF_PROG_TEST_RUN, or a look-up by address over sock_diag). */
static __always_inline bool is_packet(struct bpf_sk_lookup *ctx)
{
	return ctx->ingress_ifindex;
}

/* The flags of bpf_sk_assign for a leaf of a service. Inlet's choice stands, unless the service leaves it to the group:
 * the kernel chooses among all of it otherwise, and others of it may be of another service. */
static __always_inline __u64 assign_flags(__u32 leaf)
{
	return leaf & LEAF_GROUP ? 0 : BPF_SK_LOOKUP_F_NO_REUSEPORT;
}

/* Notes of a packet that a socket has got where its answers leave from. */
static __always_inline void note_answers(struct bpf_sk_lookup *ctx, struct bpf_sock *sk, __u32 leaf, __u64 now)
{
	if (!is_udp(ctx) || !is_packet(ctx))
		return;
	if (!(leaf & LEAF_BOUND_ANSWERS))
		note_flow(ctx, sk, now);
	else if (is_noted_port(sk->src_port))
		answer_as_bound(ctx, sk);
}

/* Whether flows of the service stay on their sockets. */
static __always_inline bool is_sticky(struct bpf_sk_lookup *ctx, __u32 leaf)
{
	return constant(sticky) && is_udp(ctx) && sticky_seconds(leaf);
}

/* Gives the packet to a socket: 0 when it took it, -ENOENT when the socket is bound to another device, or the error of
 * bpf_sk_assign. */
static __always_inline int give(struct bpf_sk_lookup *ctx, struct bpf_sock *sk, __u32 leaf)
{
	int err = -ENOENT;

	if (!sk->bound_dev_if || sk->bound_dev_if == ctx->ingress_ifindex)
		err = bpf_sk_assign(ctx, sk, assign_flags(leaf));
	if (constant(answers) && !err)
		note_answers(ctx, sk, leaf, is_sticky(ctx, leaf) ? bpf_ktime_get_coarse_ns() : 0);
	return err;
}

/* The same for the socket in a slot: also -ENOENT when the slot is empty. */
static __always_inline int give_to(struct bpf_sk_lookup *ctx, __u32 slot, __u32 leaf)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&inlet_sockets, &slot);
	int err;

	if (!sk)
		return -ENOENT;
	err = give(ctx, sk, leaf);
	if (!err && is_sticky(ctx, leaf) && is_packet(ctx))
		stay_on(ctx, sk, slot, leaf);
	bpf_sk_release(sk);
	return err;
}

/* Gives the packet to the socket where its flow stays: -ENOENT when that is not the one in a slot. -EINVAL: it is, and
 * the flow does not stay any more. */
static __noinline int give_back(struct bpf_sk_lookup *ctx, __u32 at, struct stay *stay, __u32 leaf)
{
	__u32 slot = at & ~STAY_LEAVING;
	__u64 now = bpf_ktime_get_coarse_ns();
	struct bpf_sock *sk;
	int err = -ENOENT;

	if (at & STAY_LEAVING)
		sk = bpf_map_lookup_elem(&inlet_leaving, &slot);
	else
		sk = bpf_map_lookup_elem(&inlet_sockets, &slot);
	if (!sk)
		return err;
	if (cookie_of(sk) == stay->cookie)
		err = is_alive(ctx, sk, stay, leaf, now) && !give(ctx, sk, leaf) ? 0 : -EINVAL;
	if (!err && is_packet(ctx)) {
		if (stay->slot != at)
			stay->slot = at;
		if (now - stay->seen > OFTEN)
			stay->seen = now;
	}
	bpf_sk_release(sk);
	return err;
}

/* The search for the socket of a flow among those of its lane, and then those that are being drained. */
struct search {
	struct bpf_sk_lookup *ctx;
	struct stay *stay;
	__u32 leaf;
	__u32 first;
	__u32 owned;
	int err;
};

static long try_back(__u32 step, struct search *search)
{
	__u32 at = step < search->owned ? search->first + step : (step - search->owned) | STAY_LEAVING;

	search->err = give_back(search->ctx, at, search->stay, search->leaf);
	return search->err != -ENOENT;
}

/* Gives the packet to the socket where its flow stays. An error: it stays nowhere. The flow is new, was silent for too
 * long or was of another service, or its socket is gone. */
static __noinline int give_as_before(struct bpf_sk_lookup *ctx, __u64 lane, __u32 leaf)
{
	struct search search = {.ctx = ctx, .leaf = leaf, .err = -ENOENT};
	struct flow flow = {.own_port = ctx->local_port};
	struct stay *stay;

	set_flow(ctx, &flow, flow.own);
	stay = bpf_map_lookup_elem(&inlet_stays, &flow);
	if (!stay || stay->service != (leaf_number(leaf) & (LEAF_GROUP - 1)))
		return -ENOENT;
	search.err = give_back(ctx, stay->slot, stay, leaf);
	if (search.err != -ENOENT)
		return search.err;
	search.stay = stay;
	search.first = lane_first(lane);
	search.owned = lane_owned(lane);
	bpf_loop(search.owned + stay_count(STAYS_LEAVING), try_back, &search, 0);
	return search.err;
}
