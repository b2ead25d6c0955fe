/* SPDX-License-Identifier: GPL-2.0 */
/* Swap space on a compressed RAM disk of a test's own */
#ifndef _MTE_ZRAM_H
#define _MTE_ZRAM_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>

#define ZRAM_CONTROL	"/sys/class/zram-control/"

struct zram_path {
	char text[64];
};

static inline struct zram_path zram_node(int id)
{
	struct zram_path path;

	snprintf(path.text, sizeof(path.text), "/dev/zram%d", id);
	return path;
}

static inline struct zram_path zram_attribute(int id, const char *name)
{
	struct zram_path path;

	snprintf(path.text, sizeof(path.text), "/sys/block/zram%d/%s", id,
		 name);
	return path;
}

static inline bool zram_write(const char *path, unsigned long value)
{
	FILE *f = fopen(path, "w");
	bool ok;

	if (!f)
		return false;
	ok = fprintf(f, "%lu\n", value) > 0;
	return !fclose(f) && ok;
}

/* There is no node if nobody looks after /dev. */
static inline bool zram_make_node(int id)
{
	unsigned int major, minor;
	FILE *f;
	int n;

	if (!access(zram_node(id).text, F_OK))
		return true;
	f = fopen(zram_attribute(id, "dev").text, "r");
	if (!f)
		return false;
	n = fscanf(f, "%u:%u", &major, &minor);
	fclose(f);
	return n == 2 && !mknod(zram_node(id).text, S_IFBLK | 0600,
				makedev(major, minor));
}

/*
 * The header that mkswap writes: version 1, @pages, all of them good. The first
 * one is the header itself.
 */
static inline bool write_swap_header(const char *device, unsigned int pages)
{
	size_t size = sysconf(_SC_PAGESIZE);
	char *header = calloc(1, size);
	unsigned int *info = (unsigned int *)(header + 1024);
	bool ok;
	int fd;

	info[0] = 1;			/* version */
	info[1] = pages - 1;		/* last page */
	memcpy(header + size - 10, "SWAPSPACE2", 10);

	fd = open(device, O_WRONLY);
	ok = fd >= 0 && pwrite(fd, header, size, 0) == (ssize_t)size &&
	     !fsync(fd);
	if (fd >= 0)
		close(fd);
	free(header);
	return ok;
}

/* Swap on the first @bytes of the device, rather than on any other one */
static inline bool zram_swap_on(int id, size_t bytes)
{
	return write_swap_header(zram_node(id).text,
				 bytes / sysconf(_SC_PAGESIZE)) &&
	       !swapon(zram_node(id).text,
		       SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK);
}

static inline bool zram_swap_off(int id)
{
	return !swapoff(zram_node(id).text);
}

/* A new device of @bytes. Returns its number, or -1. */
static inline int zram_add(size_t bytes)
{
	FILE *f = fopen(ZRAM_CONTROL "hot_add", "r");
	int id = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%d", &id) != 1)
		id = -1;
	fclose(f);
	if (id < 0 || (zram_write(zram_attribute(id, "disksize").text, bytes) &&
		       zram_make_node(id)))
		return id;
	zram_write(ZRAM_CONTROL "hot_remove", id);
	return -1;
}

static inline void zram_remove(int id)
{
	zram_swap_off(id);
	zram_write(zram_attribute(id, "reset").text, 1);
	zram_write(ZRAM_CONTROL "hot_remove", id);
	/* Whoever made it may be faster. */
	unlink(zram_node(id).text);
}

#endif /* _MTE_ZRAM_H */
