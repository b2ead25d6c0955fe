// SPDX-License-Identifier: GPL-2.0-only
// What scripts/cocci --self-test plants.  The comment above a function says which
// finding it must cause, or that it must cause none.

/* raw-flags: set_bit() */
void raw_set(struct page *page)
{
	set_bit(PG_mte_tagged, &page->flags);
}

/* raw-flags: a mask of the bit behind the flag */
bool raw_mask(struct page *page)
{
	return page->flags & (1UL << PG_arch_3);
}

/* right: a flag is shown */
u64 shown(u64 k)
{
	return kpf_copy_bit(k, KPF_ARCH_2, PG_arch_2);
}

/* section: user memory is read */
int user_read(struct page *page, void *to, void __user *from)
{
	bool initialise = try_page_mte_tagging(page);
	int ret = __copy_from_user_inatomic(to, from, 16);

	if (initialise)
		set_page_mte_tagged(page);
	return ret;
}

/* section: user memory is read, through an iterator */
void iter_read(struct page *page, void *to, struct iov_iter *from)
{
	bool initialise = try_page_mte_tagging(page);

	if (initialise) {
		copy_from_iter(to, 16, from);
		set_page_mte_tagged(page);
	}
}

/* section: a string is read from user memory */
void string_read(struct page *page, void *to, void __user *from)
{
	if (try_page_mte_tagging(page)) {
		strncpy_from_user(to, from, 16);
		set_page_mte_tagged(page);
	}
}

/* section: an allocation as an argument */
void allocates(struct page *page)
{
	if (try_page_mte_tagging(page)) {
		mte_restore_page_tags(page_address(page), kmalloc(128, GFP_KERNEL));
		set_page_mte_tagged(page);
	}
}

/* section: storage for tags is allocated */
void allocates_storage(struct page *page)
{
	if (try_page_mte_tagging(page)) {
		void *tags = mte_allocate_tag_storage();

		mte_restore_page_tags(page_address(page), tags);
		set_page_mte_tagged(page);
	}
}

/* section: a page is allocated where the loser has left */
void allocates_page(struct page *page)
{
	if (!try_page_mte_tagging(page))
		return;
	mte_restore_page_tags(page_address(page), __get_free_page(GFP_KERNEL));
	set_page_mte_tagged(page);
}

/* section: it sleeps, in the section of the inner door */
void inner_door_sleeps(struct page *page)
{
	if (__try_mte_tagging(&page->flags.f)) {
		cond_resched();
		mte_clear_page_tags(page_address(page));
		__set_mte_tagged(&page->flags.f);
	}
}

/* section: whatever a method does */
void method(struct page *page, struct ops *ops)
{
	if (try_page_mte_tagging(page)) {
		ops->fill(page);
		set_page_mte_tagged(page);
	}
}

/* unpaired: return in the branch of the owner */
int returns(struct page *page)
{
	if (try_page_mte_tagging(page)) {
		if (signal_pending(current))
			return -EINTR;
		mte_clear_page_tags(page_address(page));
		set_page_mte_tagged(page);
	}
	return 0;
}

/* unpaired: return in the branch of the owner, inner door */
int inner_door_returns(struct page *page)
{
	if (__try_mte_tagging(&page->flags.f)) {
		if (signal_pending(current))
			return -EINTR;
		mte_clear_page_tags(page_address(page));
		__set_mte_tagged(&page->flags.f);
	}
	return 0;
}

/* unpaired: goto in the branch of the owner */
int jumps(struct page *page, int err)
{
	if (try_page_mte_tagging(page)) {
		if (err)
			goto out;
		set_page_mte_tagged(page);
	}
out:
	return err;
}

/* unpaired: break in the branch of the owner */
void breaks(struct page *page, int n)
{
	while (n--) {
		if (try_page_mte_tagging(page)) {
			if (signal_pending(current))
				break;
			set_page_mte_tagged(page);
		}
	}
}

/* unpaired: return after the loser has left */
int negated_returns(struct page *page)
{
	if (!try_page_mte_tagging(page))
		return 0;
	if (signal_pending(current))
		return -EINTR;
	mte_clear_page_tags(page_address(page));
	set_page_mte_tagged(page);
	return 0;
}

/* unpaired: the loser does not leave */
void loser_stays(struct page *page)
{
	if (!try_page_mte_tagging(page))
		cpu_relax();
	set_page_mte_tagged(page);
}

/* unpaired: return before the kept answer is looked at */
int kept_returns(struct page *page)
{
	bool initialise = try_page_mte_tagging(page);

	if (signal_pending(current))
		return -EINTR;
	if (initialise)
		set_page_mte_tagged(page);
	return 0;
}

/* unpaired: return in the branch of a kept answer */
int kept_returns_inside(struct page *page, int err)
{
	bool initialise = try_page_mte_tagging(page);

	if (initialise) {
		if (err)
			return -EFAULT;
		mte_clear_page_tags(page_address(page));
		set_page_mte_tagged(page);
	}
	return 0;
}

/* unpaired: a kept answer that nobody reads */
void kept_unread(struct page *page)
{
	bool initialise = try_page_mte_tagging(page);

	mte_clear_page_tags(page_address(page));
	set_page_mte_tagged(page);
}

/* unpaired: a kept answer that is forgotten */
void kept_overwritten(struct page *page)
{
	bool initialise = try_page_mte_tagging(page);

	initialise = true;
	if (initialise)
		set_page_mte_tagged(page);
}

/* unpaired: an answer that nobody looks at */
void ignored(struct page *page)
{
	try_page_mte_tagging(page);
	mte_clear_page_tags(page_address(page));
	set_page_mte_tagged(page);
}

/* unpaired: published without asking */
void never_asked(struct page *page)
{
	mte_clear_page_tags(page_address(page));
	set_page_mte_tagged(page);
}

/* unpaired: another page is published */
void other_page(struct page *page, struct page *other)
{
	if (try_page_mte_tagging(page))
		set_page_mte_tagged(other);
}

/* unpaired: another page gets the name */
void renamed_page(struct page *page, struct page *other)
{
	if (try_page_mte_tagging(page)) {
		page = other;
		set_page_mte_tagged(page);
	}
}

/* unpaired: published twice */
void twice(struct page *page)
{
	if (try_page_mte_tagging(page)) {
		set_page_mte_tagged(page);
		set_page_mte_tagged(page);
	}
}

/* unpaired: another page is taken while the first is held */
void nested(struct page *page, struct page *other)
{
	if (try_page_mte_tagging(page)) {
		if (try_page_mte_tagging(other))
			set_page_mte_tagged(other);
		set_page_mte_tagged(page);
	}
}

/* unpaired: the same with kept answers */
void nested_kept(struct page *page, struct page *other)
{
	bool first = try_page_mte_tagging(page);
	bool second = try_page_mte_tagging(other);

	if (first)
		set_page_mte_tagged(page);
	if (second)
		set_page_mte_tagged(other);
}

/* right: each form that is known, and what is done around it */
int forms(struct page *page, void *to, void __user *from, int n)
{
	while (n--) {
		bool initialise;

		if (copy_from_user(to, from, 16))
			return -EFAULT;
		initialise = try_page_mte_tagging(page);
		mte_clear_page_tags(page_address(page));
		if (initialise)
			set_page_mte_tagged(page);
		cond_resched();
		if (try_page_mte_tagging(page)) {
			mte_clear_page_tags(page_address(page));
			set_page_mte_tagged(page);
		}
		cond_resched();
	}
	if (!try_page_mte_tagging(page))
		return 0;
	mte_clear_page_tags(page_address(page));
	set_page_mte_tagged(page);
	cond_resched();
	return 0;
}

/* right: the loser leaves, with a kept answer */
int kept_loser_leaves(struct page *page)
{
	bool initialise = try_page_mte_tagging(page);

	if (!initialise)
		return 0;
	mte_clear_page_tags(page_address(page));
	set_page_mte_tagged(page);
	return 1;
}

/* hugetlb-flag: the page is picked before it is asked for its tags */
bool picks_page(struct page *page)
{
	if (PageHuge(page))
		page = compound_head(page);
	return page_mte_tagged(page);
}

/* hugetlb-flag: the answer is kept */
bool picks_later(struct page *page)
{
	bool huge = folio_test_hugetlb(page_folio(page));

	if (huge)
		return page_mte_tagged(compound_head(page));
	return page_mte_tagged(page);
}

/* hugetlb-flag: a ternary */
bool picks_either(struct page *page)
{
	return page_mte_tagged(PageHuge(page) ? compound_head(page) : page);
}

/* hugetlb-flag: two ways to initialise tags */
void picks_way(struct page *page)
{
	if (folio_test_hugetlb(page_folio(page)))
		mte_ensure_page_tags(page, 1);
	else
		mte_sync_tags(page_pte(page), 1);
}

/* hugetlb-flag: a VMA is asked */
bool picks_by_vma(struct vm_area_struct *vma, struct page *page)
{
	return page_mte_tagged(vma->vm_flags & VM_HUGETLB ? compound_head(page) : page);
}

/* hugetlb-flag: the caller says where the flags are */
void picks_flags(struct folio *folio)
{
	if (__try_mte_tagging(&folio->flags.f)) {
		mte_clear_page_tags(folio_address(folio));
		__set_mte_tagged(&folio->flags.f);
	}
}

/* right: the size of mappings */
int mapping_size(struct vm_area_struct *vma)
{
	if (is_vm_hugetlb_page(vma))
		return huge_page_shift(hstate_vma(vma));
	return PAGE_SHIFT;
}

/* raw-flags: in a macro */
#define something_else(page) test_bit(PG_arch_3, &(page)->flags)

/* unseen: what spatch cannot read */
#define unreadable(page) if (try_page_mte_tagging(page)) { set_page_mte_tagged(page) @
