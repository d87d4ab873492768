/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers over UDP: what the lookup notes of a datagram, and what the programs on the way out find there.
 *
 * A socket of a service is bound somewhere, and datagrams reach it that were sent to other addresses and ports. The
 * lookup notes where a remote end asked, under a key that both directions have: the remote end and where the socket is
 * bound. All addresses are in network order, those of IPv4 mapped into IPv6.
 */
#pragma once

struct flow {
	__u32 remote[4];
	__u32 own[4];	   /* what the socket is bound to; 0 is any address */
	__u16 remote_port; /* network order */
	__u16 own_port;
};

struct asked {
	__u32 addr[4];
	__u32 port;
	__u32 interface; /* where the last question came in */
	__u64 sent;	 /* when the last answer was sent, where flows stay on sockets (sticky.bpf.h); else 0 */
};

#define PORT_WORDS 1024

/* Which ports sockets are bound to that were asked elsewhere: so that other sends pay one test. Bits are only set. */
struct bound_ports {
	__u64 address[PORT_WORDS]; /* at another address or port */
	__u64 port[PORT_WORDS];	   /* at another port */
};

/* What became of datagrams. */
struct answer_counters {
	__u64 noted;	 /* new flows */
	__u64 changed;	 /* flows that asked elsewhere than before */
	__u64 unnoted;	 /* there was no room for the flow */
	__u64 addressed; /* answers that got the address asked */
	__u64 rewritten; /* answers that got the port asked */
	__u64 apart;	 /* further entries, of flows that ask at several addresses */
	__u64 passed;	 /* answers to clients of the host that passed */
	__u64 bare;	 /* answers to need the port asked, whose question came in where nothing sets it */
	__u64 bare_set;	 /* those of them that got it, as they left elsewhere */
};

/* Which interfaces have the program that sets ports, by the lower bits of their indexes. User space alone writes it. */
struct covered {
	__u64 interface[PORT_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow);
	__type(value, struct asked);
} inlet_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bound_ports);
} inlet_bound SEC(".maps");

/* How often a flow asked elsewhere than before: what a program keeps of the table counts while this stays. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} inlet_changes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answer_counters);
} inlet_answers SEC(".maps");

#define COUNT(field)                                                                                                   \
	do {                                                                                                           \
		__u32 zero = 0;                                                                                        \
		struct answer_counters *counters = bpf_map_lookup_elem(&inlet_answers, &zero);                         \
		if (counters)                                                                                          \
			counters->field++;                                                                             \
	} while (0)

/* Times are not written more often, so that packets of a flow do not fight for a cache line: a quarter of a second. */
#define OFTEN (1ULL << 28)

/* An address of IPv4 as one of IPv6 (RFC 4291, 2.5.5.2). */
static __always_inline void map_address(__u32 to[4], __u32 ip4)
{
	to[0] = 0;
	to[1] = 0;
	to[2] = bpf_htonl(0xffff);
	to[3] = ip4;
}

#define COPY_ADDRESS(to, from)                                                                                         \
	do {                                                                                                           \
		(to)[0] = (from)[0];                                                                                   \
		(to)[1] = (from)[1];                                                                                   \
		(to)[2] = (from)[2];                                                                                   \
		(to)[3] = (from)[3];                                                                                   \
	} while (0)

static __always_inline bool same_address(const __u32 a[4], const __u32 b[4])
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

static __always_inline bool is_any(const __u32 addr[4])
{
	return !(addr[0] | addr[1] | addr[2] | addr[3]);
}

static __always_inline __u64 *port_word(__u64 words[PORT_WORDS], __u32 port)
{
	return &words[port >> 6 & (PORT_WORDS - 1)];
}

static __always_inline bool has_port(__u64 words[PORT_WORDS], __u32 port)
{
	return *(volatile __u64 *)port_word(words, port) >> (port & 63) & 1;
}

static __always_inline __u32 table_changes(void)
{
	__u32 zero = 0;
	volatile __u32 *changes = bpf_map_lookup_elem(&inlet_changes, &zero);

	return changes ? *changes : 0;
}
