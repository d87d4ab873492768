/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The lookup: which leaf of the image is for a packet. First the local address, then the port, then conditions on
 * source, interface and mark; when no rule of the longest prefix matches, the next shorter ones.
 *
 * All constants are fixed before the program is loaded, so the verifier knows them and drops the code that this ruleset
 * does not use.
 */
#pragma once
#include "local.bpf.h"
#include "marks.bpf.h"

/* Protocol and family of a packet as bits: comparing would be branches, each of which the verifier walks both ways. */
_Static_assert((IPPROTO_TCP >> 4 & 1) == 0 && (IPPROTO_UDP >> 4 & 1) == 1, "bit 4 tells UDP from TCP");
_Static_assert((AF_INET >> 3 & 1) == 0 && (AF_INET6 >> 3 & 1) == 1, "bit 3 tells IPv6 from IPv4");

static __always_inline __u32 is_udp(struct bpf_sk_lookup *ctx)
{
	return ctx->protocol >> 4 & 1;
}

static __always_inline __u32 is_v6(struct bpf_sk_lookup *ctx)
{
	return ctx->family >> 3 & 1;
}

/* A 128-bit address of the context, which is in network order, as two halves. */
#define HALVES(ip6, high, low)                                                                                         \
	do {                                                                                                           \
		high = (__u64)bpf_ntohl(ip6[0]) << 32 | bpf_ntohl(ip6[1]);                                             \
		low = (__u64)bpf_ntohl(ip6[2]) << 32 | bpf_ntohl(ip6[3]);                                              \
	} while (0)

/* Above a mark that is known. */
#define MARK_KNOWN (1ULL << 32)

/* The mark of the packet, when the netfilter program left it here. What it left for another packet is nobody's. */
static __always_inline __u64 mark_of(struct bpf_sk_lookup *ctx)
{
	const struct marked *left = left_here();
	__u32 other;

	if (!left)
		return 0;
	other = left->kind ^ (MARKED | is_udp(ctx) << MARKED_UDP_SHIFT | is_v6(ctx) << MARKED_V6_SHIFT);
	other |= left->ports ^ (ctx->local_port | (__u32)ctx->remote_port << 16);
	if (ctx->family == AF_INET) {
		other |= left->local[0] ^ ctx->local_ip4;
		other |= left->remote[0] ^ ctx->remote_ip4;
	} else {
#pragma unroll
		for (int word = 0; word < 4; word++) {
			other |= left->local[word] ^ ctx->local_ip6[word];
			other |= left->remote[word] ^ ctx->remote_ip6[word];
		}
	}
	return other ? 0 : MARK_KNOWN | left->mark;
}

/* Searches by mark. Without a known one no rule with a mark matches. */
static __always_inline __u32 by_mark(struct bpf_sk_lookup *ctx, __u32 leaf)
{
	__u32 place = leaf_number(leaf);
	__u64 mark = mark_of(ctx);

	if (!(mark & MARK_KNOWN))
		return cell(place + MARK_UNKNOWN);
	return value_at(search32(cell(place), (__u32)mark & cell(place + MARK_MASK)))->ports;
}

/* Searches by source, interface or mark, whichever the leaf says. */
static __always_inline __u32 condition(struct bpf_sk_lookup *ctx, __u32 leaf)
{
	__u32 entry = cell(leaf_number(leaf));
	__u64 high, low;

	if (constant(marks) && leaf_kind(leaf) == LEAF_BY_MARK)
		return by_mark(ctx, leaf);
	if (leaf_kind(leaf) == LEAF_BY_SOURCE && ctx->family == AF_INET6) {
		HALVES(ctx->remote_ip6, high, low);
		return value_at(search128(entry, high, low))->ports;
	}
	low = leaf_kind(leaf) == LEAF_BY_IFACE ? ctx->ingress_ifindex : bpf_ntohl(ctx->remote_ip4);
	return value_at(search32(entry, low))->ports;
}

/* From a leaf that needs further searches to one that does not. A function of its own, verified once. */
__noinline __u32 resolve(struct bpf_sk_lookup *ctx, __u32 leaf)
{
	for (int step = 0; step < MAX_STEPS; step++) {
		if (step >= constant(steps) || leaf_kind(leaf) < LEAF_BY_SOURCE)
			break;
		leaf = condition(ctx, leaf);
	}
	return leaf;
}

static __always_inline __u32 in_range(__u32 number, __u32 key)
{
	const struct range *r = at(constant(ranges) + 2 * (__u64)number);
	__u32 port = key & 0xffff, ports = r->ports, leaf = r->leaf;

	if (port < (ports & 0xffff) || port > ports >> 16 || (leaf >> RANGE_UDP & 1) != key >> 16)
		return LEAF_MISS;
	return leaf & ~(1U << RANGE_UDP);
}

/* The first of two ranges may be inside the second. */
static __always_inline __u32 in_ranges(__u32 numbers, __u32 key)
{
	__u32 leaf = in_range(numbers & ((1 << RANGE_BITS) - 1), key);

	return leaf != LEAF_MISS ? leaf : in_range(numbers >> RANGE_BITS, key);
}

static __always_inline __u32 small_ports(__u32 place, __u32 key)
{
	const struct ports *p = at(constant(cells) + (__u64)place);
	__u64 rank = leq32(p->key[4], key) * 4;

	rank += leq32(p->key[rank + 2], key) * 2;
	rank += leq32(p->key[rank + 1], key);
	return p->leaf[rank];
}

/* The leaf that a port table has for the packet. */
static __always_inline __u32 by_port(struct bpf_sk_lookup *ctx, __u32 table, __u32 key)
{
	__u64 kinds = constant(port_tables);
	__u32 leaf;

	if (kinds & HAS_LARGE && table & PORTS_LARGE)
		leaf = value_at(search32(cell(table & ~PORTS_LARGE), key))->ports;
	else if (kinds & HAS_ONE && table & PORTS_ONE)
		leaf = in_range(table & ~PORTS_ONE, key);
	else if (kinds & HAS_TWO && table & PORTS_TWO)
		leaf = in_ranges(table & ~PORTS_TWO, key);
	else if (kinds & HAS_SMALL)
		leaf = small_ports(table, key);
	else
		leaf = LEAF_MISS;
	if (constant(steps) && leaf_kind(leaf) >= LEAF_BY_SOURCE)
		leaf = resolve(ctx, leaf);
	return leaf;
}

/* No rule of the longest prefix matches: what the next shorter ones say. A function of its own, verified once. */
__noinline __u32 shorter_prefixes(struct bpf_sk_lookup *ctx, __u32 next, __u32 key)
{
	__u32 leaf = LEAF_MISS;

	for (int hop = 1; hop < MAX_HOPS; hop++) {
		const struct value *value;

		if (hop >= constant(hops) || leaf != LEAF_MISS || !next)
			break;
		value = at(constant(chain) + 2 * (__u64)next);
		next = value->next;
		leaf = by_port(ctx, value->ports, key);
	}
	return leaf;
}

/* The leaf for a packet: never one that needs a further search. */
static __always_inline __u32 image_lookup(struct bpf_sk_lookup *ctx)
{
	__u32 key = ctx->local_port | is_udp(ctx) << 16;
	struct value value;
	__u64 high, low;
	__u32 leaf;

	if (constant(v4.used) && ctx->family == AF_INET) {
		value = local4(bpf_ntohl(ctx->local_ip4));
	} else if (constant(v6.used) && ctx->family == AF_INET6) {
		HALVES(ctx->local_ip6, high, low);
		value = local6(high, low);
	} else {
		return LEAF_MISS;
	}
	if (!value.ports)
		return LEAF_MISS;
	leaf = by_port(ctx, value.ports, key);
	if (constant(hops) > 1 && leaf == LEAF_MISS && value.next)
		leaf = shorter_prefixes(ctx, value.next, key);
	return leaf;
}
