/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ports of their own: where programs with own binds are in truth bound, and what they asked for.
 */
#pragma once

/*
 * Entry 0 is the first port of the range. Each port after it has an entry: the service in the upper half, the port that
 * its program asked for in the lower one, or 0. Only bind() takes an entry, and nobody else can bind a port of the
 * range, so that the port of a socket alone tells what it asked for. User space frees entries of services that are
 * gone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} inlet_own_ports SEC(".maps");

#define OWN_SERVICE_SHIFT 16
#define OWN_ASKED_MASK 0xffff
/* An entry that is free again: a search goes on behind it. */
#define OWN_FREED (0xffffU << OWN_SERVICE_SHIFT)

/* The range of these ports. */
struct own_range {
	__u32 first;
	__u32 count; /* 0 when no service has own binds */
};

static __always_inline bool in_range_of(const volatile struct own_range *own, __u32 port)
{
	return port - own->first < own->count;
}

/* The port that the program of a socket at this port asked for; 0 when it got what it asked for. */
static __always_inline __u32 asked_for(const volatile struct own_range *own, __u32 port)
{
	__u32 at = port - own->first + 1;
	const volatile __u32 *entry;

	if (!in_range_of(own, port))
		return 0;
	entry = bpf_map_lookup_elem(&inlet_own_ports, &at);
	return entry ? *entry & OWN_ASKED_MASK : 0;
}
