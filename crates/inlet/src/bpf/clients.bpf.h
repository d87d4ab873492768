/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host's own clients: unconnected UDP sockets that ask others, such as those of a resolver. A rule for several
 * ports covers theirs too. The programs on the way out note what such sockets ask, and the lookup lets the answers
 * pass.
 *
 * A send of this host alone makes a note, so what comes in opens no way past the rules. It is not refreshed by
 * what comes in, so that keeps none open.
 */
#pragma once
#include "answers.bpf.h"

#define PORTS 65536

/* The ports where rules may take the answers to clients: those of rules for several ports, less those that have a rule
 * of their own. User space alone writes it. */
struct client_ports {
	__u64 covered[PORT_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct client_ports);
} inlet_client_ports SEC(".maps");

/* When a client asked last from a port, 0 for never: datagrams to other ports pay one test. */
struct asking {
	__u32 tick[PORTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct asking);
} inlet_asking SEC(".maps");

/* When a client asked last. The key is whom it asked, and what it is bound to. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow);
	__type(value, __u32);
} inlet_clients SEC(".maps");

/* A tick is 2^30 ns. The answer passes for 112 of them after a question: two minutes. */
#define TICK_SHIFT 30
#define ANSWER_TICKS 112

/* The time; never 0. */
static __always_inline __u32 tick_now(void)
{
	return (bpf_ktime_get_coarse_ns() >> TICK_SHIFT) + 1;
}

static __always_inline bool is_client_port(__u32 port)
{
	__u32 zero = 0;
	struct client_ports *ports = bpf_map_lookup_elem(&inlet_client_ports, &zero);

	return ports && has_port(ports->covered, port);
}

static __always_inline __u32 *tick_of_port(__u32 port)
{
	__u32 zero = 0;
	struct asking *asking = bpf_map_lookup_elem(&inlet_asking, &zero);

	return asking ? &asking->tick[port & (PORTS - 1)] : NULL;
}

static __always_inline bool is_lately(const __u32 *tick, __u32 now)
{
	return tick && *tick && (__s32)(now - *tick) < ANSWER_TICKS;
}
