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
 *   a rule, and it answers a client     SK_PASS, the kernel's ordinary lookup finds the client (pass.bpf.h)
 *   a rule says refuse                  SK_DROP: TCP reset, ICMP port unreachable
 *   a service with a live socket        SK_PASS, with that socket
 *   a service without one               its on-missing policy: SK_DROP or SK_PASS
 *   a port of own binds                 SK_DROP where it would be the ordinary lookup's: rules alone lead there
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
#include "flow.bpf.h"
#include "give.bpf.h"
#include "lanes.bpf.h"
#include "lookup.bpf.h"
#include "pass.bpf.h"

/* Packets of a service. Each look-up counts once in steered, missed or failed. */
struct counters {
	__u64 steered; /* a socket received it */
	__u64 missed;  /* there was no live socket for the interface it came in on */
	__u64 failed;  /* there was one, and the kernel refused to give it the packet */
	__u64 refused; /* those of missed and failed that on-missing refused */
};

/* The number that counts the verdicts of rules without a service: steered counts pass, refused counts refuse. */
#define NO_SERVICE 0

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} inlet_counters SEC(".maps");

/* 2^64 divided by the golden ratio, for mixing by multiplication. */
static const __u64 mix = 0x9e3779b97f4a7c15;

/* How often the hash leads to a slot before all are tried in turn. */
#define HASHED_STEPS 64

/* The choice among several slots. */
struct choice {
	struct bpf_sk_lookup *ctx;
	__u64 hash;
	__u32 leaf;
	__u32 first;
	__u32 shown;
	__u32 hashed; /* how many steps go where the hash leads */
	__u32 others; /* not 0 when a socket refused for another reason than that the slot is empty */
	int err;
};

/* One step of bpf_loop: 1 ends it. The first steps go where the hash, mixed with the step, leads: so the flows of a
 * worker that left spread evenly over all that stay. Then all slots in turn, so that none is left out. */
static long try_next(__u32 step, struct choice *choice)
{
	__u64 at;

	if (step < choice->hashed) {
		at = choice->hash + step * mix;
		at = (at ^ at >> 32) * mix;
		at = (at >> 32) * choice->shown >> 32;
	} else {
		at = step - choice->hashed;
	}
	choice->err = give_to(choice->ctx, choice->first + at, choice->leaf);
	choice->others |= choice->err + ENOENT;
	return !choice->err;
}

/* Gives the packet to one of several sockets: 0 when one took it, -ENOENT when there is none, or another error. A
 * function of its own, so that the verifier walks it once. */
__noinline int give_to_one_of(struct bpf_sk_lookup *ctx, __u64 lane, __u32 leaf)
{
	struct choice choice = {.ctx = ctx, .leaf = leaf, .err = -ENOENT};

	choice.first = lane_first(lane);
	choice.shown = lane_shown(lane);
	choice.hashed = choice.shown < HASHED_STEPS ? choice.shown : HASHED_STEPS;
	choice.hash = flow_hash(ctx);
	bpf_loop(choice.hashed + choice.shown, try_next, &choice, 0);
	if (!choice.err)
		return 0;
	return choice.others ? -EINVAL : -ENOENT;
}

/* Where the kernel's ordinary lookup would go on: it must not find sockets that only rules lead to. */
static __always_inline int unless_own(struct bpf_sk_lookup *ctx, int verdict)
{
	__u32 first = constant(own_ports) & 0xffff;

	if (constant(own_ports) && ctx->local_port - first < constant(own_ports) >> 16)
		return SK_DROP;
	if (constant(answers) && verdict == SK_PASS && is_udp(ctx) && is_packet(ctx) && is_noted_port(ctx->local_port))
		answer_as_usual(ctx);
	return verdict;
}

static __always_inline int to_service(struct bpf_sk_lookup *ctx, __u32 leaf, int on_missing)
{
	__u32 service = leaf_number(leaf) & (LEAF_GROUP - 1);
	__u32 key = lane_key(service, is_v6(ctx), is_udp(ctx));
	struct counters *count = is_packet(ctx) ? bpf_map_lookup_elem(&inlet_counters, &service) : NULL;
	const volatile __u64 *word = bpf_map_lookup_elem(&inlet_lanes, &key);
	/* Loaded once: what follows is of one state of the lane. */
	__u64 lane = word ? *word : 0;
	int err = -ENOENT;

	if (is_sticky(ctx, leaf))
		err = give_as_before(ctx, lane, leaf);
	if (err && lane_shown(lane) == 1)
		err = give_to(ctx, lane_first(lane), leaf);
	else if (err && lane_shown(lane))
		err = give_to_one_of(ctx, lane, leaf);
	if (!err) {
		if (count)
			count->steered++;
		return SK_PASS;
	}
	if (count) {
		if (err == -ENOENT)
			count->missed++;
		else
			count->failed++;
		if (on_missing == SK_DROP)
			count->refused++;
	}
	return unless_own(ctx, on_missing);
}

/* A mark is handed over once: a later look-up of the same flow may be one that never went through netfilter. */
static __always_inline void forget_mark(struct bpf_sk_lookup *ctx)
{
	struct marked *left = is_packet(ctx) ? left_here() : NULL;

	if (left)
		left->kind = 0;
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
	return unless_own(ctx, verdict);
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
	if (constant(marks))
		forget_mark(ctx);
	if (constant(clients) && leaf_kind(leaf) > LEAF_PASS && answers_client(ctx)) {
		COUNT(passed);
		return unless_own(ctx, SK_PASS);
	}
	switch (leaf_kind(leaf)) {
	case LEAF_PASS:
	case LEAF_REFUSE:
		return plain_verdict(ctx, verdict_of(LEAF_REFUSE - leaf_kind(leaf)));
	case LEAF_SERVICE_OR_REFUSE:
	case LEAF_SERVICE_OR_PASS:
		return to_service(ctx, leaf, verdict_of(leaf_kind(leaf) - LEAF_SERVICE_OR_REFUSE));
	default:
		return unless_own(ctx, SK_PASS);
	}
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
