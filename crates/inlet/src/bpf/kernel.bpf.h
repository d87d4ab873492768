/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs that find sockets know of the kernel's own types: the fields that they read and no others. Where a
 * field lies in the running kernel is looked up when the program is loaded (CO-RE).
 */
#pragma once

#define KERNEL_TYPE __attribute__((preserve_access_index))

typedef struct {
	unsigned int val;
} kuid_t;

struct kernfs_node {
	const char *name;
} KERNEL_TYPE;

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[]; /* the root first; since 6.1 */
} KERNEL_TYPE;

struct sock_cgroup_data {
	struct cgroup *cgroup;
} KERNEL_TYPE;

struct in6_kernel {
	__u8 bytes[16];
};

struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_ipv6only : 1;
	int skc_bound_dev_if;		    /* the interface that it is bound to, 0 for none */
	__u16 skc_num;			    /* the local port, host order */
	__u32 skc_rcv_saddr;		    /* the local address, network order */
	struct in6_kernel skc_v6_rcv_saddr; /* for AF_INET6 */
} KERNEL_TYPE;

struct sock {
	struct sock_common __sk_common;
	kuid_t sk_uid;
	struct sock_cgroup_data sk_cgrp_data;
} KERNEL_TYPE;

struct inet_sock {
	struct sock sk;
} KERNEL_TYPE;

struct inet_connection_sock {
	struct inet_sock icsk_inet;
} KERNEL_TYPE;

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	unsigned char is_mptcp : 1;
} KERNEL_TYPE;

struct udp_sock {
	struct inet_sock inet;
} KERNEL_TYPE;

struct css_set {
	struct cgroup *dfl_cgrp; /* the group in the v2 hierarchy */
} KERNEL_TYPE;

struct task_struct {
	int tgid;
	struct css_set *cgroups;
	char comm[16];
} KERNEL_TYPE;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} KERNEL_TYPE;

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} KERNEL_TYPE;

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
} KERNEL_TYPE;

struct sk_buff {
	struct sock *sk;
	__u32 mark;
} KERNEL_TYPE;

struct nf_hook_state {
	__u8 pf;
} KERNEL_TYPE;

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
} KERNEL_TYPE;

/* The states of include/net/tcp_states.h in which a socket receives through the hook. */
#define TCP_LISTEN 10
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7
#define UDP_UNCONNECTED 7
