// SPDX-License-Identifier: GPL-2.0
/*
 * race_window - hold a chosen task at the entry of a chosen kernel function
 *
 * Test-only. Races between two contexts that set up the allocation tags of the
 * same page last for a few hundred instructions, so that a test may run for
 * hours without meeting one. This module widens such a window from outside,
 * without a change in the code under test: a kprobe at the function's entry
 * keeps the chosen task spinning there until the test has done its part.
 *
 * Files in debugfs, directory race_window/:
 *
 * function  rw  Function to probe; an empty string disarms. Either zeroes
 *               the counters. After an error of write() nothing is probed.
 * pid       rw  Thread id (initial pid namespace) of the task to watch; 0 is
 *               any task.
 * delay_us  rw  Longest time for which one entry is held, at most 2000000;
 *               0 counts entries without holding them.
 * max_holds rw  How many entries are held after arming; 0, the default, is all.
 *               A function that is called for each page of a block would hold
 *               the task far too long otherwise.
 * release   wo  A write of anything ends the holds under way, and only these.
 * hits      rw  Entries by a watched task, held or not. It goes up when the
 *               hold begins: who sees it change knows that the window is open.
 * held      ro  Holds under way now.
 * early     rw  Entries at which the page whose linear-map address is argument
 *               0 already had PG_mte_tagged (PG_arch_2), that is the flag was
 *               published before the tags were written. This means something
 *               only for functions that write the tags of a page (the ones in
 *               arch/arm64/lib/mte.S) and for calls that initialise a page:
 *               rewriting the tags of a tagged page counts, too.
 * stale     rw  Entries at which that page had a tag other than zero at its
 *               start. For a function that initialises the tags of a page,
 *               there was something left behind that may not be seen. Zero
 *               means that a test for stale tags did not test anything. The
 *               flag does not matter: 5.10 sets it first.
 *
 * A held task spins in the breakpoint handler: its CPU takes no interrupts and
 * does not reschedule, and its locks stay taken. Hence the limit on delay_us,
 * long enough for the other side under emulation on a busy machine, and far
 * below what the soft lockup and RCU stall detectors allow.
 */

#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/cpufeature.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>

#define MAX_DELAY_US	2000000

static struct dentry *dir;

/* Protects probe, function and armed; never taken by the handler. */
static DEFINE_MUTEX(arm_lock);
static struct kprobe probe;
static char function[KSYM_NAME_LEN];
static bool armed;

static u32 watched_pid;
static u32 max_holds;
static u64 delay_us;

static atomic_t hits;
static atomic_t held;
static atomic_t holds;
static atomic_t early;
static atomic_t stale;
static atomic_t releases;

static u8 allocation_tag(const void *addr)
{
	u64 tagged = 0;

	asm volatile(".arch	armv8.5-a+memtag\n"
		     "ldg	%0, [%1]"
		     : "+r" (tagged) : "r" (addr));

	return (tagged >> 56) & 0xf;
}

NOKPROBE_SYMBOL(allocation_tag);

static void look_at_page(unsigned long addr)
{
	struct page *page;

	/* A pointer tag would hide a perfectly good linear-map address. */
	addr = sign_extend64(addr, 55);
	if (!virt_addr_valid((void *)addr))
		return;

	page = virt_to_page((void *)addr);

	/* The flags are a bare word or a structure around it, by version. */
	if (test_bit(PG_arch_2, (unsigned long *)&page->flags))
		atomic_inc(&early);
	if (cpu_have_named_feature(MTE) &&
	    allocation_tag((void *)(addr & PAGE_MASK)))
		atomic_inc(&stale);
}

NOKPROBE_SYMBOL(look_at_page);

static int enter_function(struct kprobe *p, struct pt_regs *regs)
{
	u32 pid = READ_ONCE(watched_pid);
	u32 limit = READ_ONCE(max_holds);
	u64 delay_ns, start;
	int seen;

	if (pid && pid != task_pid_nr(current))
		return 0;

	look_at_page(regs->regs[0]);

	if (limit && atomic_fetch_inc(&holds) >= limit) {
		atomic_inc(&hits);
		return 0;
	}

	/*
	 * Sample before "hits" changes: a release by a task that saw the
	 * change must end this hold.
	 */
	seen = atomic_read(&releases);
	delay_ns = READ_ONCE(delay_us) * NSEC_PER_USEC;
	start = ktime_get_mono_fast_ns();

	atomic_inc(&held);
	/* A task that sees the new "hits" must see the hold in "held", too. */
	smp_mb__after_atomic();
	atomic_inc(&hits);

	while (atomic_read(&releases) == seen &&
	       ktime_get_mono_fast_ns() - start < delay_ns)
		cpu_relax();

	atomic_dec(&held);

	return 0;
}

NOKPROBE_SYMBOL(enter_function);

static void disarm(void)
{
	lockdep_assert_held(&arm_lock);

	if (armed) {
		/* No need to wait for a hold's limit before the probe goes. */
		atomic_inc(&releases);
		unregister_kprobe(&probe);
		armed = false;
	}
	function[0] = '\0';
	atomic_set(&holds, 0);
	atomic_set(&hits, 0);
	atomic_set(&early, 0);
	atomic_set(&stale, 0);
}

static int arm(const char *name)
{
	int ret;

	lockdep_assert_held(&arm_lock);

	strscpy(function, name, sizeof(function));

	/* A probe that was used before still carries the old address. */
	memset(&probe, 0, sizeof(probe));
	probe.symbol_name = function;
	probe.pre_handler = enter_function;

	ret = register_kprobe(&probe);
	if (ret)
		function[0] = '\0';
	else
		armed = true;

	return ret;
}

static ssize_t function_read(struct file *file, char __user *buf, size_t count,
			     loff_t *ppos)
{
	char text[KSYM_NAME_LEN + 1];
	int len;

	mutex_lock(&arm_lock);
	len = scnprintf(text, sizeof(text), "%s\n", function);
	mutex_unlock(&arm_lock);

	return simple_read_from_buffer(buf, count, ppos, text, len);
}

static ssize_t function_write(struct file *file, const char __user *buf,
			      size_t count, loff_t *ppos)
{
	char text[KSYM_NAME_LEN];
	char *name;
	int ret = 0;

	if (count >= sizeof(text))
		return -ENAMETOOLONG;
	if (copy_from_user(text, buf, count))
		return -EFAULT;
	text[count] = '\0';
	name = strim(text);

	mutex_lock(&arm_lock);
	disarm();
	if (*name)
		ret = arm(name);
	mutex_unlock(&arm_lock);

	return ret ? ret : count;
}

static const struct file_operations function_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = function_read,
	.write = function_write,
};

static ssize_t release_write(struct file *file, const char __user *buf,
			     size_t count, loff_t *ppos)
{
	atomic_inc(&releases);
	return count;
}

static const struct file_operations release_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = release_write,
};

static int delay_get(void *data, u64 *val)
{
	*val = READ_ONCE(delay_us);
	return 0;
}

static int delay_set(void *data, u64 val)
{
	WRITE_ONCE(delay_us, min_t(u64, val, MAX_DELAY_US));
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(delay_fops, delay_get, delay_set, "%llu\n");

static int __init race_window_init(void)
{
	dir = debugfs_create_dir("race_window", NULL);
	if (IS_ERR(dir))
		return PTR_ERR(dir);

	debugfs_create_file("function", 0600, dir, NULL, &function_fops);
	debugfs_create_file("release", 0200, dir, NULL, &release_fops);
	debugfs_create_file("delay_us", 0600, dir, NULL, &delay_fops);
	debugfs_create_u32("pid", 0600, dir, &watched_pid);
	debugfs_create_u32("max_holds", 0600, dir, &max_holds);
	debugfs_create_atomic_t("hits", 0600, dir, &hits);
	debugfs_create_atomic_t("held", 0400, dir, &held);
	debugfs_create_atomic_t("early", 0600, dir, &early);
	debugfs_create_atomic_t("stale", 0600, dir, &stale);

	return 0;
}
module_init(race_window_init);

static void __exit race_window_exit(void)
{
	/* The files first, so that the probe is not armed again. */
	debugfs_remove_recursive(dir);

	mutex_lock(&arm_lock);
	disarm();
	mutex_unlock(&arm_lock);
}
module_exit(race_window_exit);

MODULE_DESCRIPTION("Test-only: hold a task at the entry of a kernel function");
MODULE_LICENSE("GPL");
