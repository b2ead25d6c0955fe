/* SPDX-License-Identifier: GPL-2.0 */
/* Settings of the machine, and swap space on a compressed RAM disk of a test's own */
#ifndef _MTE_ZRAM_H
#define _MTE_ZRAM_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>

/* The number in a file of proc or sysfs; -1 if it cannot be read */
static inline long read_number(const char *path)
{
	FILE *f = fopen(path, "r");
	long value = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%ld", &value) != 1)
		value = -1;
	fclose(f);
	return value;
}

/*
 * A line of a file; of a choice of words in sysfs the one in brackets. It is in memory
 * that the next call overwrites, and empty if the file cannot be read.
 */
static inline const char *read_setting(const char *path)
{
	static char line[256];
	FILE *f = fopen(path, "r");
	char *choice;

	if (!f || !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		fclose(f);
	line[strcspn(line, "\n")] = '\0';
	choice = strncmp(path, "/sys/", 5) ? NULL : strchr(line, '[');
	if (!choice)
		return line;
	choice[strcspn(choice, "]")] = '\0';
	return choice + 1;
}

static inline bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok;
}

static inline bool write_number(const char *path, unsigned long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu\n", value);
	return write_text(path, text);
}

#define MAX_SETTINGS	16

/* Settings that were changed, as they were; in memory that processes share */
struct settings {
	struct {
		char path[128], was[256];
	} old[MAX_SETTINGS];
	size_t nr;
};

static inline bool change_setting(struct settings *s, const char *path, const char *text)
{
	size_t i;

	for (i = 0; i < s->nr; i++)
		if (!strcmp(s->old[i].path, path))
			return write_text(path, text);
	if (i == MAX_SETTINGS)
		return false;
	snprintf(s->old[i].path, sizeof(s->old[i].path), "%s", path);
	snprintf(s->old[i].was, sizeof(s->old[i].was), "%s", read_setting(path));
	s->nr++;
	return write_text(path, text);
}

static inline void restore_settings(struct settings *s)
{
	for (; s->nr; s->nr--)
		write_text(s->old[s->nr - 1].path,
			   s->old[s->nr - 1].was[0] ? s->old[s->nr - 1].was : "\n");
}

/* Have @handler called by what stops a program that has changed settings. */
static inline void set_stop_handler(void (*handler)(int signal))
{
	struct sigaction action = { .sa_handler = handler };

	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGPIPE, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

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

/* Without devtmpfs or udev there is no node. */
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
	if (id < 0 || (write_number(zram_attribute(id, "disksize").text, bytes) &&
		       zram_make_node(id)))
		return id;
	write_number(ZRAM_CONTROL "hot_remove", id);
	return -1;
}

static inline void zram_remove(int id)
{
	zram_swap_off(id);
	write_number(zram_attribute(id, "reset").text, 1);
	write_number(ZRAM_CONTROL "hot_remove", id);
	/* What made it may be faster. */
	unlink(zram_node(id).text);
}

#endif /* _MTE_ZRAM_H */
