/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Descriptions: which service wants a socket, if any. The maps are filled before the programs are attached and never
 * change after that.
 */
#pragma once
#include "kernel.bpf.h"
#include "ports.bpf.h"

struct adopting {
	__u64 netns;	/* the cookie of the instance's namespace */
	__u32 any_port; /* whether a description means sockets of every port */
	__u32 plain;	/* how many entries inlet_plain has */
	struct own_range own;
};

const volatile struct adopting adopting = {};

/* How many services may want sockets of one address, told apart by user, control group and interface. */
#define MAX_WANTS 8
/* How deep a control group may be, and how long its names, with the 0 at the end. */
#define MAX_DEPTH 8
#define NAME_BYTES 128
#define NAME_WORDS (NAME_BYTES / sizeof(__u64))

/* The port in host order with the protocol's bit above it, as in the image. */
#define PORT_KEY(port, udp) ((port) | (__u32)(udp) << 16)

/* An address is in its IPv6 form, IPv4 mapped; all zero bits are the sockets of all addresses, and any is whatever it
 * is. */
struct want_key {
	__u32 port;
	__u32 any;
	__u8 addr[16];
};

struct want {
	__u32 service;
	__u32 has_uid;
	__u32 uid;
	__u32 confine; /* the number of the control group in inlet_confines, from 1 on; 0 is everywhere */
	__u32 device;  /* the interface that it must be bound to; 0 is whatever it is */
	__u32 own;     /* whether bind() moves it */
};

struct wants {
	__u32 count;
	struct want want[MAX_WANTS];
};

/* The path of a control group, from below the root on. */
struct confine {
	__u32 depth;
	__u32 unused;
	__u64 name[MAX_DEPTH][NAME_WORDS];
};

/* The ports that are described at all: most sockets are at others, and cost this one look-up. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} inlet_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct want_key);
	__type(value, struct wants);
} inlet_wants SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct confine);
} inlet_confines SEC(".maps");

/* Whether the control group at a level of a path has the name wanted there. A function of its own, verified once. */
__noinline int same_name(__u64 kernel_name, __u32 confine, __u32 level)
{
	const struct confine *wanted = bpf_map_lookup_elem(&inlet_confines, &confine);
	__u64 name[NAME_WORDS] = {};

	if (!wanted || level >= MAX_DEPTH)
		return 0;
	/* A name that does not fit ends without its 0, and so differs. */
	if (bpf_probe_read_kernel_str(name, sizeof(name), (const void *)kernel_name) < 0)
		return 0;
	for (int i = 0; i < NAME_WORDS; i++) {
		if (name[i] != wanted->name[level][i])
			return 0;
	}
	return 1;
}

/* Whether a control group is the one wanted or below it. A function of its own, verified once. */
__noinline int is_in(__u64 kernel_cgroup, __u32 confine)
{
	const struct confine *wanted = bpf_map_lookup_elem(&inlet_confines, &confine);
	const struct cgroup *cgroup = (const void *)kernel_cgroup;
	__u32 depth;

	if (!wanted || !cgroup)
		return false;
	depth = wanted->depth;
	if (BPF_CORE_READ(cgroup, level) < depth)
		return false;
#pragma unroll
	for (int level = 0; level < MAX_DEPTH; level++) {
		struct cgroup *above = NULL;

		if (level >= depth)
			break;
		/* What lies between a group and the root does not go while a socket of the group is there. */
		bpf_core_read(&above, sizeof(above), &cgroup->ancestors[level + 1]);
		if (!same_name((__u64)BPF_CORE_READ(above, kn, name), confine, level))
			return false;
	}
	return true;
}

/* Whose a socket is, or is going to be. */
struct who {
	__u64 cgroup;
	__u32 uid;
	__u32 device;
	bool moves; /* only services that move what is bound are meant */
};

/* The service of those that want this address which wants this socket too; 0 when none does. */
static __always_inline __u32 wanted_by(const struct who *who, const struct want_key *key)
{
	const struct wants *wants = bpf_map_lookup_elem(&inlet_wants, key);

	if (!wants)
		return 0;
	for (int i = 0; i < MAX_WANTS; i++) {
		const struct want *want = &wants->want[i];

		if (i >= wants->count)
			break;
		if (want->has_uid && want->uid != who->uid)
			continue;
		if (want->device && want->device != who->device)
			continue;
		if (who->moves && !want->own)
			continue;
		if (want->confine && !is_in(who->cgroup, want->confine - 1))
			continue;
		return want->service;
	}
	return 0;
}

/* What a socket is bound to, and which families it serves. */
struct bound {
	struct want_key key;
	bool v4;
	bool v6;
	bool moved; /* it asked for the port of the key, and has another one */
};

static __always_inline void bound_of(const struct sock *sk, bool udp, struct bound *bound)
{
	const struct sock_common *common = &sk->__sk_common;
	__u64 *addr = (__u64 *)bound->key.addr;
	__u32 asked;

	__builtin_memset(bound, 0, sizeof(*bound));
	asked = asked_for(&adopting.own, common->skc_num);
	bound->moved = asked;
	bound->key.port = PORT_KEY(asked ?: common->skc_num, udp);
	if (common->skc_family == AF_INET) {
		bound->key.addr[10] = bound->key.addr[11] = 0xff;
		*(__u32 *)&bound->key.addr[12] = common->skc_rcv_saddr;
		bound->v4 = true;
		return;
	}
	bpf_core_read(bound->key.addr, sizeof(bound->key.addr), &common->skc_v6_rcv_saddr);
	if (!addr[0] && *(__u32 *)&bound->key.addr[8] == bpf_htonl(0xffff)) {
		bound->v4 = true;
		return;
	}
	bound->v6 = true;
	bound->v4 = !addr[0] && !addr[1] && !BPF_CORE_READ_BITFIELD(common, skc_ipv6only);
}

/* The service that wants a socket, 0 when none does. */
static __always_inline __u32 service_for(const struct sock *sk, struct bound *bound)
{
	struct want_key any = {.port = bound->key.port, .any = 1};
	bool is_port = bpf_map_lookup_elem(&inlet_ports, &any.port);
	/* UDP sockets of every port are those that bind() moved: others are of clients. */
	bool is_any = adopting.any_port && (any.port <= 0xffff || bound->moved);
	struct who who = {.uid = sk->sk_uid.val, .device = sk->__sk_common.skc_bound_dev_if};
	__u32 service = 0;

	if (!is_port && !is_any)
		return 0;
	/* Not a plain load: for each of a pointer the verifier looks through the names of all types of the kernel. */
	who.cgroup = (__u64)BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	if (is_port) {
		service = wanted_by(&who, &bound->key);
		if (!service)
			service = wanted_by(&who, &any);
	}
	if (!service && is_any) {
		any.port = PORT_KEY(0, any.port >> 16);
		service = wanted_by(&who, &any);
	}
	return service;
}
