/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host's own clients: unconnected UDP sockets that ask others, such as those of a resolver. A rule for a range of
 * ports covers theirs too. The programs on the way out note what they ask, and the lookup lets the answers pass.
 */
#pragma once
#include "answers.bpf.h"

/* The ports that rules for ranges cover, none when first is above last. Sockets of other ports need no note. */
struct port_range {
	__u32 first;
	__u32 last;
};

/* Which ports clients have asked from, and to which ports sockets are bound that got datagrams by a rule: to any
 * address, or to one. What these send is no question of a client. Bits are only set. */
struct client_ports {
	__u64 asking[PORT_WORDS];
	__u64 served_any[PORT_WORDS];
	__u64 served_one[PORT_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct port_range);
} inlet_range SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct client_ports);
} inlet_asking SEC(".maps");

/* When a client asked last, on the clock of bpf_ktime_get_ns. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow);
	__type(value, __u64);
} inlet_clients SEC(".maps");

#define NSEC_PER_SEC 1000000000ULL
/* For so long after a question the answer passes. */
#define ANSWER_NSEC (120 * NSEC_PER_SEC)

static __always_inline void add_port(__u64 words[PORT_WORDS], __u32 port)
{
	if (!has_port(words, port))
		__sync_fetch_and_or(port_word(words, port), 1ULL << (port & 63));
}
