/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows over UDP that stay on their sockets.
 *
 * Where a service is sticky, the lookup keeps which socket got the first datagram of a flow, and gives it the others as
 * long as the socket lives and the flow is not silent for too long. A socket that is being drained lies in a map of its
 * own: no new flow gets there. A flow whose socket is gone is a new one.
 */
#pragma once
#include "lanes.bpf.h"
#include "note.bpf.h"

/* Where a flow stays. */
struct stay {
	__u64 cookie; /* the kernel's number of the socket */
	__u64 since;  /* when the first datagram came */
	__u64 seen;   /* when the last one came */
	__u32 slot;   /* where the socket was last, with STAY_LEAVING when it is being drained */
	__u32 service;
};

#define STAY_LEAVING (1U << 31)

/* The key is the remote end and what it asks, in the place of what the socket is bound to. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow);
	__type(value, struct stay);
} inlet_stays SEC(".maps");

/* The sockets that are being drained. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} inlet_leaving SEC(".maps");

enum stay_count {
	STAYS_MADE,    /* how many flows were entered */
	STAYS_LEAVING, /* how many slots of inlet_leaving may have a socket */
	STAYS_REMOVED, /* how many of these were removed since, by user space */
	STAY_COUNTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STAY_COUNTS);
	__type(key, enum stay_count);
	__type(value, __u64);
} inlet_stay_counts SEC(".maps");

#define NS_PER_SECOND 1000000000ULL
/* So many words of a socket are read: the kernel has the cookie in one of them. */
#define SOCKET_WORDS 16

/* For how many seconds a silent flow stays; 0 where flows do not stay. */
static __always_inline __u64 sticky_seconds(__u32 leaf)
{
	return leaf >> LEAF_STICKY & ((1U << (RANGE_UDP - LEAF_STICKY)) - 1);
}

/* The kernel's number of a socket, 0 while nobody has asked for it. Whoever puts a socket into a map asks before. */
static __noinline __u64 cookie_of(struct bpf_sock *sk)
{
	__u64 words[SOCKET_WORDS] = {};

	if (bpf_probe_read_kernel(words, sizeof(words), sk))
		return 0;
	return words[constant(cookie) & (SOCKET_WORDS - 1)];
}

static __always_inline __u64 stay_count(enum stay_count which)
{
	__u64 *count = bpf_map_lookup_elem(&inlet_stay_counts, &which);

	return count ? *count : 0;
}

static __always_inline void count_stay(void)
{
	enum stay_count made = STAYS_MADE;
	__u64 *count = bpf_map_lookup_elem(&inlet_stay_counts, &made);

	if (count)
		__sync_fetch_and_add(count, 1);
}

/* When an answer of this flow was sent last. */
static __noinline __u64 last_sent(struct bpf_sk_lookup *ctx, struct bpf_sock *sk)
{
	__u32 nothing[4];
	const struct asked *asked;
	struct flow flow;

	set_flow(ctx, &flow, nothing);
	bound_at(ctx, sk, &flow);
	asked = bpf_map_lookup_elem(&inlet_flows, &flow);
	return asked ? asked->sent : 0;
}

/* Whether a flow was seen within its time, in one direction or the other. */
static __always_inline bool is_alive(struct bpf_sk_lookup *ctx, struct bpf_sock *sk, const struct stay *stay,
				     __u32 leaf, __u64 now)
{
	__u64 time = sticky_seconds(leaf) * NS_PER_SECOND;

	return now < stay->seen + time || (constant(answers) && now < last_sent(ctx, sk) + time);
}

/* From now on a new flow stays on the socket in a slot. */
static __noinline int stay_on(struct bpf_sk_lookup *ctx, struct bpf_sock *sk, __u32 slot, __u32 leaf)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct stay stay = {.since = now, .seen = now, .slot = slot, .service = leaf_number(leaf) & (LEAF_GROUP - 1)};
	struct flow flow = {.own_port = ctx->local_port};

	stay.cookie = cookie_of(sk);
	if (!stay.cookie)
		return 0;
	set_flow(ctx, &flow, flow.own);
	if (!bpf_map_update_elem(&inlet_stays, &flow, &stay, BPF_NOEXIST))
		count_stay();
	else
		bpf_map_update_elem(&inlet_stays, &flow, &stay, BPF_EXIST);
	return 0;
}
