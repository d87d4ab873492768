/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sockets of services: the map that holds them, and which of its slots a service has.
 */
#pragma once

/* How many sockets a service can have for one protocol and family. */
#define LANE_SLOTS 64

/*
 * The sockets of a service for one protocol and family. The first `stock` slots belong to this lane and to no other;
 * packets go to the first `count` of them, where an empty slot is passed over. A socket is put into an empty slot, and
 * then `count` is raised over it. User space and the kernel do that side by side, each change being one word; only user
 * space changes the stock.
 */
struct lane {
	__u32 count;
	__u32 stock;
	__u32 slot[LANE_SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} inlet_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lane);
} inlet_lanes SEC(".maps");

/* The lane of a service: two protocols, two families. */
static __always_inline __u32 lane_key(__u32 service, __u32 v6, __u32 udp)
{
	return service * 4 + v6 * 2 + udp;
}
