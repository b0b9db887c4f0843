/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* The kernel's types of files and of filesystems' journals; see kernel.h of how they are used. */
#ifndef OTEL_OOM_FILES_H
#define OTEL_OOM_FILES_H

#include "kernel.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
};

struct inode {
	unsigned short i_mode;
	__u32 i_rdev;
	unsigned long i_ino;
	struct super_block *i_sb;
};

struct file {
	struct inode *f_inode;
};

struct io_cqe {
	__s32 fd;
};

struct io_kiocb {
	struct io_cqe cqe; /* v5.19 */
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct thread_info___x86 {
	__u32 status; /* arm64 has none */
};

struct task_struct___storage {
	struct thread_info___x86 thread_info;
	struct files_struct *files;
	unsigned int in_iowait : 1;
};

struct ext4_inode_info {
	struct inode vfs_inode;
	__u32 i_sync_tid;
	__u32 i_datasync_tid;
};

struct block_device___journal {
	__u32 bd_dev;
};

struct journal_s {
	struct block_device___journal *j_fs_dev;
};

struct transaction_s {
	__u32 t_tid;
};

#pragma clang attribute pop

#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFDIR 0040000
#define S_IFBLK 0060000

/* include/uapi/linux/magic.h: file systems that never wait for a device. */
#define PROC_SUPER_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572
#define CGROUP_SUPER_MAGIC 0x27e0eb
#define CGROUP2_SUPER_MAGIC 0x63677270
#define TMPFS_MAGIC 0x01021994
#define DEBUGFS_MAGIC 0x64626720
#define TRACEFS_MAGIC 0x74726163
#define SECURITYFS_MAGIC 0x73636673
#define BPF_FS_MAGIC 0xcafe4a11
#define EXT4_SUPER_MAGIC 0xef53

#define TS_COMPAT 2 /* arch/x86: a 32-bit system call, with numbers of its own */

#endif
