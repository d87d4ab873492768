/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The local address: windows lead to a bucket, and the bucket to the value of the longest prefix that the address is
 * in.
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

/* A value, loaded here and now: from then on the verifier sees two numbers like any other, and not one place of
 * several, for each of which it would walk all that follows. */
static __always_inline struct value loaded(const struct value *value)
{
	__u32 ports = value->ports, next = value->next;

	asm volatile("" : "+r"(ports), "+r"(next));
	return (struct value){.ports = ports, .next = next};
}

/* The value of the first prefix of a bucket that the address is in, which is the longest. Branches, since packets come
 * in crowds to few addresses: what follows is on its way before the bucket is. */
static __always_inline bool find4(const struct bucket4 *b, __u64 addr, struct value *value)
{
	if (is_in4(b, 0, addr))
		*value = loaded(&b->value[0]);
	else if (is_in4(b, 1, addr))
		*value = loaded(&b->value[1]);
	else if (is_in4(b, 2, addr))
		*value = loaded(&b->value[2]);
	else if (is_in4(b, 3, addr))
		*value = loaded(&b->value[3]);
	else
		return false;
	return true;
}

static __always_inline bool find6(const struct bucket6 *b, __u64 high, __u64 low, struct value *value)
{
	if (is_in6(b, 0, high, low))
		*value = loaded(&b->value[0]);
	else if (is_in6(b, 1, high, low))
		*value = loaded(&b->value[1]);
	else if (is_in6(b, 2, high, low))
		*value = loaded(&b->value[2]);
	else if (is_in6(b, 3, high, low))
		*value = loaded(&b->value[3]);
	else
		return false;
	return true;
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
	struct value value;

	if (more & MORE_SEARCH)
		return packed(*value_at(search32(cell(more & ~MORE_SEARCH), addr)));
	b = bucket4(more);
	if (!find4(b, addr, &value))
		value = loaded(&b->value[PREFIXES]);
	return packed(value);
}

__noinline __u64 more6(__u32 more, __u64 high, __u64 low)
{
	const struct bucket6 *b;
	struct value value;

	if (more & MORE_SEARCH)
		return packed(*value_at(search128(cell(more & ~MORE_SEARCH), high, low)));
	b = bucket6(more);
	if (!find6(b, high, low, &value))
		value = loaded(&b->value[PREFIXES]);
	return packed(value);
}

static __always_inline struct value local4(__u64 addr)
{
	const struct bucket4 *b;
	struct value value;
	__u64 bucket = 0;

	if (constant(v4.pieces)) {
		__u64 piece = piece_at(addr, constant(v4.first), constant(v4.shift), constant(v4.pieces));
		const struct window4 *w = at(constant(v4.windows) + piece * (sizeof(struct window4) / sizeof(__u32)));

		bucket = w->bucket + piece_at(addr, w->first, w->shift, w->pieces);
	}
	b = bucket4(bucket);
	if (find4(b, addr, &value))
		return value;
	if (constant(v4.more) && b->more)
		return unpacked(more4(b->more, addr));
	return loaded(&b->value[PREFIXES]);
}

static __always_inline struct value local6(__u64 high, __u64 low)
{
	const struct bucket6 *b;
	struct value value;
	__u64 bucket = 0;

	if (constant(v6.pieces)) {
		__u64 piece = piece6_at(high, low, constant(v6.low_half), constant(v6.high), constant(v6.first),
					constant(v6.shift), constant(v6.pieces));
		const struct window6 *w = at(constant(v6.windows) + piece * (sizeof(struct window6) / sizeof(__u32)));

		bucket = w->bucket + piece6_at(high, low, w->shift & LOW_HALF, w->high, w->first, w->shift, w->pieces);
	}
	b = bucket6(bucket);
	if (find6(b, high, low, &value))
		return value;
	if (constant(v6.more) && b->more)
		return unpacked(more6(b->more, high, low));
	return loaded(&b->value[PREFIXES]);
}
