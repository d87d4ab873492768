/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What clients of the host ask, noted as they send it.
 */
#pragma once
#include "clients.bpf.h"

/* The instance that these programs are for: control groups span network namespaces. Where in a socket the kernel has
 * what hangs on it, and the flag IP_TRANSPARENT; 0 when that is not known. */
struct answering {
	__u64 netns;
	__u64 user_data;   /* in bytes */
	__u64 transparent; /* in bits */
};

const volatile struct answering answering = {};

/* The flag of what hangs on a socket (SK_USER_DATA_PSOCK) that a map of sockets has. */
#define IN_MAP 4

/* Whether a socket is a server's, so that what it sends is no question of a client: one of a service, which are in a
 * map, or one that may have addresses of others. A server that answers by sockets of its own, bound to what was asked,
 * has such. No pointer to a socket may be moved, so its address is read from the stack. */
static __noinline int is_servers(struct bpf_sock *sk)
{
	__u64 user_data = answering.user_data, transparent = answering.transparent, at = 0, data = 0;
	struct bpf_sock *kept = sk;
	__u8 flags = 0;

	if ((!user_data && !transparent) || bpf_probe_read_kernel(&at, sizeof(at), &kept))
		return 0;
	if (user_data && !bpf_probe_read_kernel(&data, sizeof(data), (void *)(at + user_data)) && data & IN_MAP)
		return 1;
	if (!transparent || bpf_probe_read_kernel(&flags, sizeof(flags), (void *)(at + (transparent >> 3))))
		return 0;
	return flags >> (transparent & 7) & 1;
}

/* Notes what a client of the host asks. */
static __noinline int note_question(struct bpf_sock *sk, const struct flow *flow)
{
	__u32 now = tick_now(), *tick = tick_of_port(flow->own_port), *known;

	if (is_servers(sk))
		return 0;
	if (tick && *tick != now)
		*tick = now;
	known = bpf_map_lookup_elem(&inlet_clients, flow);
	if (!known)
		bpf_map_update_elem(&inlet_clients, flow, &now, BPF_ANY);
	else if (*known != now)
		*known = now;
	return 0;
}
