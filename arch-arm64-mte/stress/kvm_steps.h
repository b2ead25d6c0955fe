/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The steps of stress_tags.c that do something to a guest of the areas
 *
 * Two VMs have memslots on the areas: what a guest or KVM_ARM_MTE_COPY_TAGS sets is what
 * the process sees with PROT_MTE, and the other way round. Every answer of KVM is
 * compared with what the contract says.
 */
static struct vm vms[2];
static bool vm_tried[2];
static bool kvm_refuses_logged;		/* -EBUSY, from 6.12 on */
/* Before 6.5 KVM warns when a huge page ages of which only a part is in a memslot. */
static bool kvm_ages_parts;

static struct vm *vm_of(struct rng *r)
{
	u32 i = below(r, 2);
	bool mte = !one_in(r, 16);

	if (!vm_tried[i]) {
		vm_tried[i] = true;
		if (!create_vm(&vms[i], mte))
			vms[i].vcpu = -1;
	}
	return vms[i].vcpu > 0 ? &vms[i] : NULL;
}

/* A child has VMs of its own: those of its parent are for the parent's memory. */
static void forget_vms(void)
{
	memset(vms, 0, sizeof(vms));
	memset(vm_tried, 0, sizeof(vm_tried));
}

static struct vm_slot *slot_of(struct vm *vm, const struct area *a)
{
	return &vm->slots[a - areas];
}

static int set_slot(struct vm *vm, struct area *a, bool delete)
{
	struct vm_slot *slot = slot_of(vm, a);
	u32 flags = (slot->logged ? KVM_MEM_LOG_DIRTY_PAGES : 0) |
		    (slot->read_only ? KVM_MEM_READONLY : 0);

	return set_region(vm, a - areas, delete ? 0 : flags, slot->ipa,
			  page_of(a, slot->first), delete ? 0 : slot->pages * ps);
}

static void delete_slot(struct vm *vm, struct area *a)
{
	struct vm_slot *slot = slot_of(vm, a);

	if (!slot->present)
		return;
	if (set_slot(vm, a, true))
		fail("cannot delete a memslot: %s", strerror(errno));
	slot->present = false;
	free(slot->dirty);
	slot->dirty = NULL;
}

/* The memory of the area is somewhere else now. */
static void delete_slots(struct area *a)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(vms); i++)
		if (vms[i].vcpu > 0)
			delete_slot(&vms[i], a);
}

static bool make_slot(struct vm *vm, struct area *a, u32 first, u32 pages, struct rng *r)
{
	struct vm_slot *slot = slot_of(vm, a);

	/* Off by a page it has no huge pages. */
	slot->ipa = REGION_IPA + (a - areas) * REGION_SIZE + (first + one_in(r, 3)) * ps;
	slot->logged = one_in(r, 4);
	slot->read_only = one_in(r, 16);
	slot->first = first;
	slot->pages = pages;
	if (!kvm_ages_parts && (a->kind == THP || a->kind == MEMFD_THP)) {
		slot->first = 0;
		slot->pages = a->pages;
	}
	if (set_slot(vm, a, false))
		return false;
	slot->present = true;
	slot->dirty = calloc(1, slot->pages);
	return true;
}

static bool do_memslot(struct step *s)
{
	struct vm *vm = vm_of(&s->rng);
	struct area *a = s->a;
	struct vm_slot *slot;
	u64 old;
	int ret;

	if (!vm)
		return false;
	slot = slot_of(vm, a);
	if (!slot->present)
		return make_slot(vm, a, s->first, s->n, &s->rng);
	switch (below(&s->rng, 6)) {
	case 0:
		delete_slot(vm, a);
		return true;
	case 1:
		if (slot->read_only)
			return false;
		/* Moved by a page or two */
		old = slot->ipa;
		slot->ipa += slot->ipa & (ps << 1) ? -(2 * ps) : 2 * ps;
		ret = set_slot(vm, a, false);
		if (ret)
			fail("cannot move a memslot: %s", strerror(-ret));
		memset(slot->dirty, 0, slot->pages);
		return old != slot->ipa;
	default:
		slot->logged = !slot->logged;
		ret = set_slot(vm, a, false);
		if (ret)
			fail("cannot switch dirty logging: %s", strerror(-ret));
		memset(slot->dirty, 0, slot->pages);
		return true;
	}
}

static bool do_dirty_log(struct step *s)
{
	struct vm *vm = vm_of(&s->rng);
	struct kvm_dirty_log log = { .slot = s->a - areas };
	struct vm_slot *slot;
	u64 *bits;
	u32 i;

	if (!vm)
		return false;
	slot = slot_of(vm, s->a);
	if (!slot->present || !slot->logged)
		return false;
	bits = calloc(1, (slot->pages + 63) / 64 * 8);
	log.dirty_bitmap = bits;
	if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log))
		fail("no dirty log: %s", strerror(errno));
	for (i = 0; i < slot->pages; i++)
		if (slot->dirty[i] && !(bits[i / 64] >> i % 64 & 1))
			fail("%s%d page %u: written, but not in the dirty log",
			     kind_names[s->a->kind], (int)(s->a - areas), slot->first + i);
	memset(slot->dirty, 0, slot->pages);
	free(bits);
	return true;
}

/* The area and page at an address of the guest, or NULL */
static struct area *area_at(struct vm *vm, u64 ipa, u32 *page)
{
	u32 i;

	for (i = 0; i < nr_areas; i++) {
		struct vm_slot *slot = &vm->slots[i];

		if (!slot->present || ipa < slot->ipa || ipa - slot->ipa >= slot->pages * ps)
			continue;
		*page = slot->first + (ipa - slot->ipa) / ps;
		return &areas[i];
	}
	return NULL;
}

static int page_error(struct vm *vm, u64 ipa, bool write)
{
	struct vm_slot *slot;
	struct area *a;
	u32 page;

	a = area_at(vm, ipa, &page);
	if (!a)
		return -EFAULT;
	slot = slot_of(vm, a);
	if (write && slot->logged && kvm_refuses_logged)
		return -EBUSY;
	if (write && slot->read_only)
		return -EFAULT;
	return a->prot[page] & (write ? PROT_WRITE : PROT_READ) ? 0 : -EFAULT;
}

/* Where tags are copied to or from: the buffer is followed by nothing at all. */
#define BUFFER_PAGES	32
static u8 *tag_buffer, *tag_buffer_end;

static void make_tag_buffer(void)
{
	size_t size = (BUFFER_PAGES * gpp + ps - 1) / ps * ps;
	u8 *p;

	if (tag_buffer)
		return;
	p = mmap(NULL, size + ps, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(p + size, ps, PROT_NONE);
	tag_buffer = p + size - BUFFER_PAGES * gpp;
	tag_buffer_end = p + size;
}

/*
 * KVM_ARM_MTE_COPY_TAGS with any arguments: what must come of it? Returns false if the
 * content of a page is not certain.
 */
static bool copy_as_promised(struct vm *vm, struct copy_tags *args)
{
	bool write = !(args->flags & FROM_GUEST);
	u64 done = 0, at, i;
	int want = 0, ret, error = 0;
	struct area *a;
	u32 page;

	/* As long as the buffer is, nobody can know more. */
	for (at = 0; at < args->length && at < BUFFER_PAGES * ps; at += ps) {
		a = area_at(vm, args->guest_ipa + at, &page);
		if (!a)
			break;
		if (a->shared && child)
			reap();
		if (a->prot[page] & PROT_WRITE)
			settle(a, page);
		if (a->lazy[page])
			return false;
	}
	if (!vm->mte || args->flags & ~1UL || args->reserved[0] || args->reserved[1] ||
	    (args->guest_ipa | args->length) & (ps - 1) || args->length > INT32_MAX) {
		want = -EINVAL;
	} else {
		while (done < args->length) {
			u64 tags = args->addr + done / GRANULE;
			bool readable = tags >= (u64)tag_buffer &&
					tags <= (u64)tag_buffer_end - gpp;

			if (write && !readable)
				error = -EFAULT;
			else
				error = page_error(vm, args->guest_ipa + done, write);
			if (!error && !readable)
				error = -EFAULT;
			if (error)
				break;
			done += ps;
		}
		want = done ? (int)done : error;
	}
	ret = copy_tags(vm, args);
	if (ret != want)
		fail("COPY_TAGS(ipa %lx, length %lx, buffer %+ld, flags %lx, reserved %lx %lx)%s: "
		     "%d, not %d", args->guest_ipa, args->length,
		     (long)(args->addr - (u64)tag_buffer), args->flags, args->reserved[0],
		     args->reserved[1], vm->mte ? "" : " without MTE", ret, want);
	for (at = 0; at < done; at += ps) {
		const u8 *tags = (u8 *)args->addr + at / GRANULE;
		struct vm_slot *slot;

		a = area_at(vm, args->guest_ipa + at, &page);
		slot = slot_of(vm, a);
		for (i = 0; i < gpp; i++) {
			u8 *want_tag = &a->tags[page * gpp + i];

			if (write)
				*want_tag = tags[i] & 0xf;
			else if (tags[i] != *want_tag)
				fail("%s%d page %u granule %lu: COPY_TAGS reads tag %x, not %x",
				     kind_names[a->kind], (int)(a - areas), page, i, tags[i],
				     *want_tag);
		}
		if (write && slot->logged)
			slot->dirty[page - slot->first] = 1;
	}
	return true;
}

static void fill_tag_buffer(struct rng *r)
{
	size_t i;

	for (i = 0; i < BUFFER_PAGES * gpp; i += 8) {
		u64 bits = rng_next(r);

		memcpy(tag_buffer + i, &bits, 8);
	}
}

static struct vm_slot *present_slot(struct step *s, struct vm **vm)
{
	struct vm_slot *slot;

	*vm = vm_of(&s->rng);
	if (!*vm)
		return NULL;
	slot = slot_of(*vm, s->a);
	if (slot->present || make_slot(*vm, s->a, 0, s->a->pages, &s->rng))
		return slot;
	return NULL;
}

static bool do_copy_tags(struct step *s)
{
	struct vm *vm;
	struct vm_slot *slot = present_slot(s, &vm);
	struct copy_tags args = { .flags = s->op->arg };
	u32 n, first;

	if (!slot)
		return false;
	make_tag_buffer();
	n = 1 + below(&s->rng, slot->pages < BUFFER_PAGES ? slot->pages : BUFFER_PAGES);
	first = below(&s->rng, slot->pages - n + 1);
	fill_tag_buffer(&s->rng);
	args.guest_ipa = slot->ipa + first * ps;
	args.length = n * ps;
	args.addr = (u64)tag_buffer;
	return copy_as_promised(vm, &args);
}

/* A right call, in which one thing or two are not what they should be */
static bool do_hostile_copy(struct step *s)
{
	struct vm *vm = vm_of(&s->rng);
	struct vm_slot *slot;
	struct rng *r = &s->rng;
	u32 calls, twists;

	if (!vm)
		return false;
	slot = slot_of(vm, s->a);
	make_tag_buffer();
	for (calls = 0; calls < HOSTILE_CALLS; calls++) {
		u32 pages = slot->present ? slot->pages : 1, n = 1 + below(r, BUFFER_PAGES);
		struct copy_tags args = {
			.guest_ipa = slot->present ? slot->ipa + below(r, pages) * ps : REGION_IPA,
			.length = n * ps,
			.addr = (u64)tag_buffer,
			.flags = below(r, 2),
		};

		for (twists = below(r, 3); twists; twists--) {
			switch (below(r, 12)) {
			case 0:
				args.guest_ipa += 1UL << below(r, 64);
				break;
			case 1:
				args.guest_ipa -= below(r, 4) * ps;
				break;
			case 2:
				args.length += 1UL << below(r, 64);
				break;
			case 3:
				args.length = below(r, 2) * (0x80000000UL << below(r, 3));
				break;
			case 4:
				args.length = -args.length;
				break;
			case 5:
				args.length = INT32_MAX / ps * ps;
				break;
			case 6:
			case 7:
				args.addr += (BUFFER_PAGES - below(r, 3)) * gpp - below(r, 3);
				break;
			case 8:
				args.addr = one_in(r, 2) ? 0 : 1UL << below(r, 64);
				break;
			case 9:
				args.addr = -1UL << below(r, 64);
				break;
			case 10:
				args.flags = one_in(r, 2) ? 2 : rng_next(r) >> below(r, 64);
				break;
			case 11:
				args.reserved[below(r, 2)] = 1UL << below(r, 64);
			}
		}
		/* An address in the middle of something else would do harm. */
		if (args.addr != (u64)tag_buffer && args.addr < 1UL << 48 &&
		    args.addr >= 1UL << 16 &&
		    args.addr - (u64)tag_buffer > BUFFER_PAGES * gpp)
			continue;
		/* The top byte is a tag, or not: that is for prctl() to say. */
		if (args.addr >> 56 && args.addr >> 56 != 0xff)
			continue;
		res->hostile++;
		fill_tag_buffer(r);
		copy_as_promised(vm, &args);
	}
	return true;
}

static void expect_error(const char *what, int ret, int want)
{
	if (ret != want)
		fail("%s: %d, not %d", what, ret, want);
}

/* Nothing of this changes anything; whether it does is seen by the steps that follow. */
static bool do_hostile_vm(struct step *s)
{
	struct vm *vm = vm_of(&s->rng);
	struct rng *r = &s->rng;
	struct kvm_enable_cap cap = { .cap = CAP_ARM_MTE, .flags = below(r, 2) << below(r, 32) };
	struct vm_slot *slot;
	struct area *a = s->a;
	u32 id = a - areas;
	int i;

	if (!vm)
		return false;
	slot = slot_of(vm, a);
	/* There is a vCPU. */
	expect_error("late KVM_CAP_ARM_MTE", ioctl(vm->fd, KVM_ENABLE_CAP, &cap) ? -errno : 0,
		     -EINVAL);
	for (i = 0; i < 8; i++) {
		u64 ipa = REGION_IPA + 32 * GIGABYTE;

		switch (below(r, 8)) {
		case 0:
			expect_error("memslot of odd address",
				     set_region(vm, id + 16, 0, ipa + 1 + below(r, ps - 1),
						a->mem, ps), -EINVAL);
			break;
		case 1:
			expect_error("memslot of odd size",
				     set_region(vm, id + 16, 0, ipa, a->mem,
						ps + 1 + below(r, ps - 1)), -EINVAL);
			break;
		case 2:
			expect_error("memslot of odd memory",
				     set_region(vm, id + 16, 0, ipa,
						a->mem + 1 + below(r, ps - 1), ps), -EINVAL);
			break;
		case 3:
			expect_error("memslot with unknown flags",
				     set_region(vm, id + 16, 1U << (5 + below(r, 26)), ipa,
						a->mem, ps), -EINVAL);
			break;
		case 4:
			expect_error("memslot that is not there is deleted",
				     set_region(vm, id + 16, 0, ipa, a->mem, 0), -EINVAL);
			break;
		case 5:
			expect_error("memslot of kernel memory",
				     set_region(vm, id + 16, 0, ipa, (void *)(-1UL << 40), ps),
				     -EINVAL);
			break;
		case 6:
			if (slot->present)
				expect_error("memslot over another one",
					     set_region(vm, id + 16, 0, slot->ipa, a->mem, ps),
					     -EEXIST);
			break;
		default:
			if (slot->present)
				expect_error("memslot of another size",
					     set_region(vm, id, 0, slot->ipa,
							page_of(a, slot->first),
							(slot->pages + 1) * ps), -EINVAL);
		}
	}
	return true;
}

/* The guest needs this of the memory that it uses. */
static bool guest_may(struct step *s, struct vm *vm, u32 first, u32 n, bool set)
{
	struct vm_slot *slot = slot_of(vm, s->a);
	u32 page;

	if (!vm->mte || (set && slot->read_only))
		return false;
	if (!all_have(s->a, first, n, set ? RW : PROT_READ))
		return false;
	for (page = first; page < first + n; page++) {
		if (s->a->prot[page] & PROT_WRITE)
			settle(s->a, page);
		if (s->a->lazy[page])
			return false;
	}
	return true;
}

/* It sets or gets tags and data of some pages of the slot, or of all. */
static bool guest_does(struct step *s, struct vm *vm, struct vm_slot *slot, bool set)
{
	struct area *a = s->a;
	u32 first, n, stride, i;
	u8 *tags, *data;
	int ret;

	n = one_in(&s->rng, 3) ? slot->pages : 1 + below(&s->rng, 8);
	if (n > slot->pages)
		n = slot->pages;
	first = below(&s->rng, slot->pages - n + 1);
	stride = n > FEW_PAGES ? STRIDE : 1;
	if (!guest_may(s, vm, slot->first + first, n, set))
		return false;
	tags = vm->code + GUEST_TAGS;
	data = vm->code + GUEST_DATA;
	for (i = 0; set && i < n * gpp / stride; i++) {
		u64 r = rng_next(&s->rng);

		tags[i] = r & 0xf;
		data[i] = r >> 8;
	}
	ret = guest_access(vm, set, slot->ipa + first * ps, n * gpp / stride, stride * GRANULE);
	if (ret)
		fail("the guest of %s%d pages %u to %u stops: %d, exit %u at %llx",
		     kind_names[a->kind], (int)(a - areas), slot->first + first,
		     slot->first + first + n - 1, ret, vm->run->exit_reason,
		     vm->run->mmio.phys_addr);
	for (i = 0; i < n * gpp / stride; i++) {
		size_t at = (slot->first + first) * gpp + i * stride;

		if (set) {
			a->tags[at] = tags[i];
			a->data[at] = data[i];
			if (slot->logged)
				slot->dirty[at / gpp - slot->first] = 1;
		} else if (tags[i] != a->tags[at] || data[i] != a->data[at]) {
			fail("%s%d page %zu granule %zu: the guest sees tag %x, not %x, datum "
			     "%x, not %x", kind_names[a->kind], (int)(a - areas), at / gpp,
			     at % gpp, tags[i], a->tags[at], data[i], a->data[at]);
		}
	}
	return true;
}

static bool do_guest(struct step *s)
{
	struct vm *vm;
	struct vm_slot *slot = present_slot(s, &vm);

	return slot && guest_does(s, vm, slot, s->op->arg);
}

/* Pages that the guest reads meanwhile are small; when it writes to them, huge again. */
static bool do_log_for_a_while(struct step *s)
{
	struct vm *vm;
	struct vm_slot *slot = present_slot(s, &vm);
	struct rng again = s->rng;
	bool done = false;
	u32 page, i;

	/* Huge pages are there only if they were written to. */
	for (page = 0; slot && page < slot->pages; page++)
		if (s->a->prot[slot->first + page] & PROT_WRITE)
			__atomic_fetch_add((int *)page_of(s->a, slot->first + page), 0,
					   __ATOMIC_SEQ_CST);
	for (i = 0; slot && i < 2; i++) {
		slot->logged = !i;
		if (set_slot(vm, s->a, false))
			fail("cannot switch dirty logging: %s", strerror(errno));
		memset(slot->dirty, 0, slot->pages);
		s->rng = again;
		done = guest_does(s, vm, slot, i);
	}
	return done && guest_does(s, vm, slot, false);
}

struct reader {
	struct vm *vm;
	u64 ipa, granules;
	int ret;
};

static void *read_in_guest(void *arg)
{
	struct reader *r = arg;

	r->ret = guest_access(r->vm, false, r->ipa, r->granules, GRANULE);
	return NULL;
}

/* Tags are written to pages that the guest looks at, perhaps for the first time. */
static bool do_copy_beside_guest(struct step *s)
{
	struct vm *vm;
	struct vm_slot *slot = present_slot(s, &vm);
	struct copy_tags args = { .flags = TO_GUEST };
	struct reader reader;
	pthread_t thread;
	u32 first, n, i;

	if (!slot || s->a->kind == HUGETLB || s->a->kind == HUGETLB_FD)
		return false;
	make_tag_buffer();
	n = slot->pages < 8 ? slot->pages : 8;
	first = below(&s->rng, slot->pages - n + 1);
	if (!guest_may(s, vm, slot->first + first, n, true))
		return false;
	args.addr = (u64)tag_buffer;
	for (i = 0; i < 4; i++) {
		/* Pages that nobody has seen yet */
		if (s->a->shared ?
		    fallocate(s->a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (slot->first + first) * ps, n * ps) :
		    madvise(page_of(s->a, slot->first + first), n * ps, MADV_DONTNEED))
			return false;
		expect_zeros(s->a, slot->first + first, n);
		reader = (struct reader){ vm, slot->ipa + first * ps, n * gpp, 0 };
		fill_tag_buffer(&s->rng);
		args.guest_ipa = reader.ipa;
		args.length = n * ps;
		if (pthread_create(&thread, NULL, read_in_guest, &reader))
			return false;
		copy_as_promised(vm, &args);
		pthread_join(thread, NULL);
		if (reader.ret)
			fail("the guest stops beside COPY_TAGS: %d", reader.ret);
		verify(s->a, slot->first + first, n, 1);
	}
	return true;
}

static void *fork_once(void *unused)
{
	pid_t pid = fork();

	if (!pid) {
		usleep(1000);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return unused;
}

/* Tags are written while the process forks: they are the parent's. */
static bool do_copy_beside_fork(struct step *s)
{
	struct vm *vm;
	struct vm_slot *slot = present_slot(s, &vm);
	struct copy_tags args = { .flags = TO_GUEST };
	pthread_t thread;
	u32 first, n, i;

	if (!slot || s->a->shared || s->a->kind == HUGETLB)
		return false;
	make_tag_buffer();
	n = slot->pages < 8 ? slot->pages : 8;
	first = below(&s->rng, slot->pages - n + 1);
	if (!guest_may(s, vm, slot->first + first, n, true))
		return false;
	args.addr = (u64)tag_buffer;
	args.length = n * ps;
	args.guest_ipa = slot->ipa + first * ps;
	if (pthread_create(&thread, NULL, fork_once, NULL))
		return false;
	for (i = 0; i < 16; i++) {
		fill_tag_buffer(&s->rng);
		copy_as_promised(vm, &args);
	}
	pthread_join(thread, NULL);
	verify(s->a, slot->first + first, n, 1);
	args.flags = FROM_GUEST;
	return copy_as_promised(vm, &args);
}

/*
 * The tags come from another mapping of the page that gets them, which was not accessed yet
 * and has PROT_MTE.
 */
static bool do_copy_from_alias(struct step *s)
{
	struct vm *vm;
	struct vm_slot *slot = present_slot(s, &vm);
	struct area *a = s->a;
	struct copy_tags args = { .flags = TO_GUEST };
	u8 *alias, *old_end;
	u32 first, i;
	bool done;

	if (!slot || a->kind != MEMFD)
		return false;
	make_tag_buffer();
	first = below(&s->rng, slot->pages);
	if (!guest_may(s, vm, slot->first + first, 1, true))
		return false;
	i = slot->first + first;
	/* The data of the page that are written now are the tags; it has no tags yet. */
	fill_tag_buffer(&s->rng);
	if (fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i * ps, ps) ||
	    pwrite(a->fd, tag_buffer, gpp, i * ps) != (ssize_t)gpp)
		return false;
	expect_zeros(a, i, 1);
	alias = mmap(NULL, ps, RW | PROT_MTE, MAP_SHARED, a->fd, i * ps);
	if (alias == MAP_FAILED)
		return false;
	args.guest_ipa = slot->ipa + first * ps;
	args.length = ps;
	args.addr = (u64)alias;
	old_end = tag_buffer_end;
	tag_buffer = alias;
	tag_buffer_end = alias + ps;
	done = copy_as_promised(vm, &args);
	tag_buffer = old_end - BUFFER_PAGES * gpp;
	tag_buffer_end = old_end;
	munmap(alias, ps);
	/* Now data as the model knows them: one datum a granule */
	for (i = 0; i < ps; i += 8)
		*(volatile u64 *)(page_of(a, slot->first + first) + i) = 0;
	return done;
}
