/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The lookup: which leaf of the image is for a packet. First the local address, then the port, then conditions on
 * source and interface; when no rule of the longest prefix matches, the next shorter ones.
 *
 * All constants are fixed before the program is loaded, so the verifier knows them and drops the code that this ruleset
 * does not use.
 */
#pragma once
#include "search.bpf.h"

/* Whether an address is in a prefix of a bucket. */
static __always_inline bool is_in4(const struct bucket4 *b, int slot, __u64 addr)
{
	return !((addr ^ b->key[slot]) >> (b->shift[slot] & SHIFT));
}

static __always_inline bool is_in6(const struct bucket6 *b, int slot, __u64 high, __u64 low)
{
	__u8 high_shift = b->high_shift[slot], low_shift = b->low_shift[slot];

	return !((high ^ b->key[slot].high) >> (high_shift & SHIFT) >> (high_shift >> NOTHING) |
		 (low ^ b->key[slot].low) >> (low_shift & SHIFT) >> (low_shift >> NOTHING));
}

/* The value of the first prefix of a bucket that the address is in, which is the longest; or the value of all else.
 * Branches, since packets come in crowds to few addresses: what follows is on its way before the bucket is. */
static __always_inline const struct value *value4(const struct bucket4 *b, __u64 addr)
{
	if (is_in4(b, 0, addr))
		return &b->value[0];
	if (is_in4(b, 1, addr))
		return &b->value[1];
	if (is_in4(b, 2, addr))
		return &b->value[2];
	if (is_in4(b, 3, addr))
		return &b->value[3];
	return &b->value[PREFIXES];
}

static __always_inline const struct value *value6(const struct bucket6 *b, __u64 high, __u64 low)
{
	if (is_in6(b, 0, high, low))
		return &b->value[0];
	if (is_in6(b, 1, high, low))
		return &b->value[1];
	if (is_in6(b, 2, high, low))
		return &b->value[2];
	if (is_in6(b, 3, high, low))
		return &b->value[3];
	return &b->value[PREFIXES];
}

/* Which piece of a span a value is in, from 1 on; 0 when it is outside. */
static __always_inline __u64 piece_at(__u64 value, __u64 first, __u64 shift, __u64 pieces)
{
	__u64 piece = (value - first) >> (shift & SHIFT);

	return piece < pieces ? piece + 1 : 0;
}

/* The same for halves of an address, of which the pieces differ in one. */
static __always_inline __u64 piece6_at(__u64 high, __u64 low, __u64 low_half, __u64 common, __u64 first, __u64 shift,
				       __u64 pieces)
{
	if (!low_half)
		return piece_at(high, first, shift, pieces);
	return high == common ? piece_at(low, first, shift, pieces) : 0;
}

static __always_inline const struct bucket4 *bucket4(__u64 bucket)
{
	return at(constant(v4.buckets) + bucket * (sizeof(struct bucket4) / sizeof(__u32)));
}

static __always_inline const struct bucket6 *bucket6(__u64 bucket)
{
	return at(constant(v6.buckets) + bucket * (sizeof(struct bucket6) / sizeof(__u32)));
}

static __always_inline __u64 packed(struct value value)
{
	return (__u64)value.next << 32 | value.ports;
}

static __always_inline struct value unpacked(__u64 packed)
{
	return (struct value){.ports = packed, .next = packed >> 32};
}

/* The entry of a search, which a cell has. */
static __always_inline __u32 cell(__u64 place)
{
	return *(const __u32 *)at(constant(cells) + place);
}

static __always_inline const struct value *value_at(__u64 place)
{
	return at(place);
}

/* Goes on where a bucket has no room for all prefixes. Functions of their own, verified once. */
__noinline __u64 more4(__u32 more, __u32 addr)
{
	const struct bucket4 *b;

	if (more & MORE_SEARCH)
		return packed(*value_at(search32(cell(more & ~MORE_SEARCH), addr)));
	b = bucket4(more);
	return packed(*value4(b, addr));
}

__noinline __u64 more6(__u32 more, __u64 high, __u64 low)
{
	const struct bucket6 *b;

	if (more & MORE_SEARCH)
		return packed(*value_at(search128(cell(more & ~MORE_SEARCH), high, low)));
	b = bucket6(more);
	return packed(*value6(b, high, low));
}

static __always_inline struct value local4(__u64 addr)
{
	const struct bucket4 *b;
	const struct value *value;
	__u64 bucket = 0;

	if (constant(v4.pieces)) {
		__u64 piece = piece_at(addr, constant(v4.first), constant(v4.shift), constant(v4.pieces));
		const struct window4 *w = at(constant(v4.windows) + piece * (sizeof(struct window4) / sizeof(__u32)));

		bucket = w->bucket + piece_at(addr, w->first, w->shift, w->pieces);
	}
	b = bucket4(bucket);
	value = value4(b, addr);
	if (constant(v4.more) && value == &b->value[PREFIXES] && b->more)
		return unpacked(more4(b->more, addr));
	return *value;
}

static __always_inline struct value local6(__u64 high, __u64 low)
{
	const struct bucket6 *b;
	const struct value *value;
	__u64 bucket = 0;

	if (constant(v6.pieces)) {
		__u64 piece = piece6_at(high, low, constant(v6.low_half), constant(v6.high), constant(v6.first),
					constant(v6.shift), constant(v6.pieces));
		const struct window6 *w = at(constant(v6.windows) + piece * (sizeof(struct window6) / sizeof(__u32)));

		bucket = w->bucket + piece6_at(high, low, w->shift & LOW_HALF, w->high, w->first, w->shift, w->pieces);
	}
	b = bucket6(bucket);
	value = value6(b, high, low);
	if (constant(v6.more) && value == &b->value[PREFIXES] && b->more)
		return unpacked(more6(b->more, high, low));
	return *value;
}

/* A 128-bit address of the context, which is in network order, as two halves. */
#define HALVES(ip6, high, low)                                                                                         \
	do {                                                                                                           \
		high = (__u64)bpf_ntohl(ip6[0]) << 32 | bpf_ntohl(ip6[1]);                                             \
		low = (__u64)bpf_ntohl(ip6[2]) << 32 | bpf_ntohl(ip6[3]);                                              \
	} while (0)

/* Searches by source or interface, whichever the leaf says. */
static __always_inline __u32 condition(struct bpf_sk_lookup *ctx, __u32 leaf)
{
	__u32 entry = cell(leaf_number(leaf));
	__u64 high, low;

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
	__u64 rank = le32(p->key[4], key) * 4;

	rank += le32(p->key[rank + 2], key) * 2;
	rank += le32(p->key[rank + 1], key);
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
	__u32 key = ctx->local_port | (ctx->protocol == IPPROTO_UDP) << 16;
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
