/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What clients of the host ask, noted as they send it.
 */
#pragma once
#include "clients.bpf.h"

/* The flag of what hangs on a socket (SK_USER_DATA_PSOCK) that a map of sockets has. */
#define IN_MAP 4

/* Whether a socket is one of a service, which are in a map: what it sends is no question of a client. No pointer to a
 * socket may be moved, so its address is read from the stack. */
static __noinline int is_served(struct bpf_sock *sk, __u64 user_data)
{
	struct bpf_sock *kept = sk;
	__u64 at = 0, data = 0;

	if (!user_data || bpf_probe_read_kernel(&at, sizeof(at), &kept))
		return 0;
	if (bpf_probe_read_kernel(&data, sizeof(data), (void *)(at + user_data)))
		return 0;
	return data & IN_MAP;
}

/* Notes what a client of the host asks. */
static __noinline int note_question(struct bpf_sock *sk, const struct flow *flow, __u64 user_data)
{
	__u32 now = tick_now(), *tick = tick_of_port(flow->own_port), *known;

	if (is_served(sk, user_data))
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
