/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What happens to a packet.
 *
 * The kernel runs inlet_steer for a TCP SYN (or the ACK of a syncookie) and for a UDP datagram without a connected
 * socket. It searches the image of the generation in force (lookup.bpf.h), which ends in a verdict, and for a service
 * chooses one of its live sockets. One reason per way out:
 *
 *   an earlier program chose a socket   SK_PASS, that choice stands
 *   no rule, or a rule says pass        SK_PASS, the kernel's ordinary lookup goes on
 *   a rule says refuse                  SK_DROP: TCP reset, ICMP port unreachable
 *   a service with a live socket        SK_PASS, with that socket
 *   a service without one               its on-missing policy: SK_DROP or SK_PASS
 *
 * Packets are counted. Questions are not: a test run has no interface, and every packet came in on one.
 */
#include <asm-generic/errno-base.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "lanes.bpf.h"
#include "lookup.bpf.h"

/* Packets of a service. Each look-up counts once in steered, missing or bad_socket. */
struct counters {
	__u64 steered;	  /* a socket received it */
	__u64 missing;	  /* there was no live socket */
	__u64 bad_socket; /* there was one, and the kernel refused to give it the packet */
	__u64 refused;	  /* those of missing and bad_socket that on-missing refused */
};

/* The number that counts the verdicts of rules without a service: steered counts pass, refused counts refuse. */
#define NO_SERVICE 0

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} inlet_counters SEC(".maps");

/* Whether this is a packet, and not somebody who asks (BPF_PROG_TEST_RUN, or a look-up by address over sock_diag). */
static __always_inline bool is_packet(struct bpf_sk_lookup *ctx)
{
	return ctx->ingress_ifindex;
}

/* 2^64 divided by the golden ratio, for mixing by multiplication. */
static const __u64 mix = 0x9e3779b97f4a7c15;

/* Mixes the 4-tuple. */
static __always_inline __u32 flow_hash(struct bpf_sk_lookup *ctx)
{
	__u64 hash = (__u64)ctx->local_port << 16 | ctx->remote_port;

	if (ctx->family == AF_INET) {
		hash ^= (__u64)ctx->remote_ip4 << 32;
		hash = (hash ^ ctx->local_ip4) * mix;
	} else {
		hash = (hash ^ ctx->remote_ip6[0]) * mix;
		hash = (hash ^ ctx->remote_ip6[1] ^ (__u64)ctx->local_ip6[0] << 32) * mix;
		hash = (hash ^ hash >> 32 ^ ctx->remote_ip6[2] ^ (__u64)ctx->local_ip6[1] << 32) * mix;
		hash = (hash ^ hash >> 32 ^ ctx->remote_ip6[3] ^ (__u64)ctx->local_ip6[2] << 32) * mix;
		hash ^= ctx->local_ip6[3];
	}
	hash = (hash ^ hash >> 29) * mix;
	return hash >> 32;
}

/* Gives the packet to the socket in a slot: 0 when it took it, -ENOENT when the slot is empty, or the error of
 * bpf_sk_assign. */
static __always_inline int give_to(struct bpf_sk_lookup *ctx, __u32 slot)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&inlet_sockets, &slot);
	int err;

	if (!sk)
		return -ENOENT;
	err = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return err;
}

/* The choice among several slots. */
struct choice {
	struct bpf_sk_lookup *ctx;
	const struct lane *lane;
	__u64 hash;
	__u64 count;
	__u32 others; /* not 0 when a socket refused for another reason than that the slot is empty */
	int err;
};

/* One step of bpf_loop: 1 ends it. As many steps as there are slots go where the hash, mixed with the step, leads: so
 * the flows of a worker that left spread evenly over all that stay. Then all slots in turn, so that none is left out.
 */
static long try_next(__u32 step, struct choice *choice)
{
	__u64 at;

	if (step < choice->count) {
		at = choice->hash + step * mix;
		at = (at ^ at >> 32) * mix;
		at = (at >> 32) * choice->count >> 32;
	} else {
		at = step - choice->count;
	}
	choice->err = give_to(choice->ctx, choice->lane->slot[at & (LANE_SLOTS - 1)]);
	choice->others |= choice->err + ENOENT;
	return !choice->err;
}

/* Gives the packet to one of several sockets: 0 when one took it, -ENOENT when there is none, or another error. A
 * function of its own, so that the verifier walks it once. */
__noinline int give_to_one_of(struct bpf_sk_lookup *ctx, __u32 key)
{
	const struct lane *lane = bpf_map_lookup_elem(&inlet_lanes, &key);
	struct choice choice = {};

	if (!lane)
		return -ENOENT;
	choice.ctx = ctx;
	choice.lane = lane;
	choice.hash = flow_hash(ctx);
	choice.count = lane->count;
	choice.err = -ENOENT;
	bpf_loop(2 * choice.count, try_next, &choice, 0);
	if (!choice.err)
		return 0;
	return choice.others ? -EINVAL : -ENOENT;
}

static __always_inline int to_service(struct bpf_sk_lookup *ctx, __u32 service, int on_missing)
{
	__u32 key = lane_key(service, is_v6(ctx), is_udp(ctx));
	struct counters *count = is_packet(ctx) ? bpf_map_lookup_elem(&inlet_counters, &service) : NULL;
	const struct lane *lane = bpf_map_lookup_elem(&inlet_lanes, &key);
	int err = -ENOENT;

	if (lane && lane->count == 1)
		err = give_to(ctx, lane->slot[0]);
	else if (lane && lane->count)
		err = give_to_one_of(ctx, key);
	if (!err) {
		if (count)
			count->steered++;
		return SK_PASS;
	}
	if (count) {
		if (err == -ENOENT)
			count->missing++;
		else
			count->bad_socket++;
		if (on_missing == SK_DROP)
			count->refused++;
	}
	return on_missing;
}

/* A rule without a service decided. */
static __always_inline int plain_verdict(struct bpf_sk_lookup *ctx, int verdict)
{
	__u32 key = NO_SERVICE;
	struct counters *count = is_packet(ctx) ? bpf_map_lookup_elem(&inlet_counters, &key) : NULL;

	if (count) {
		if (verdict == SK_PASS)
			count->steered++;
		else
			count->refused++;
	}
	return verdict;
}

/* The verdict that is so far from another kind of leaf: no branch. Older verifiers have to be told that it is one. */
_Static_assert(LEAF_REFUSE - LEAF_REFUSE == SK_DROP && LEAF_REFUSE - LEAF_PASS == SK_PASS, "without a service");
_Static_assert(LEAF_SERVICE_OR_PASS - LEAF_SERVICE_OR_REFUSE == SK_PASS, "a service without a socket");

static __always_inline int verdict_of(__u32 distance)
{
	asm volatile("%0 &= 1" : "+r"(distance));
	return distance;
}

SEC("sk_lookup")
int inlet_steer(struct bpf_sk_lookup *ctx)
{
	__u32 leaf;

	if (ctx->sk)
		return SK_PASS;
	leaf = image_lookup(ctx);
	switch (leaf_kind(leaf)) {
	case LEAF_PASS:
	case LEAF_REFUSE:
		return plain_verdict(ctx, verdict_of(LEAF_REFUSE - leaf_kind(leaf)));
	case LEAF_SERVICE_OR_REFUSE:
	case LEAF_SERVICE_OR_PASS:
		return to_service(ctx, leaf_number(leaf), verdict_of(leaf_kind(leaf) - LEAF_SERVICE_OR_REFUSE));
	default:
		return SK_PASS;
	}
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
