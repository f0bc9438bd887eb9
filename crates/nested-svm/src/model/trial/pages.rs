//! L0 changes its map of a VM's memory.

use super::host::{Mapping, VM_PAGES};
use super::layout::{DATA, LARGE_BLOCK};
use super::report::Action;
use super::state::Trial;

impl Trial {
    pub(super) fn move_page(&mut self, index: usize) {
        if self.move_page_without_flush(index) {
            self.vms[index].forget();
        }
    }

    /// Returns whether a page moved.
    fn move_page_without_flush(&mut self, index: usize) -> bool {
        let page = if self.choices.one_in(4) { self.choices.below(VM_PAGES) } else { self.data_page() };
        let vm = &self.vms[index];
        let moved = self.host.move_page(&vm.memory, vm.blocks, page, &mut self.choices);
        if moved {
            self.counters.moved_pages += 1;
            self.note(index, Action::MovePage { page });
        }
        moved
    }

    /// The VM migrates. Its memory may be elsewhere on the new host.
    pub(super) fn save_and_load(&mut self, index: usize) {
        self.note(index, Action::SaveAndLoad);
        self.counters.loaded += 1;
        if self.choices.one_in(2) {
            self.move_page_without_flush(index);
        }
        self.vms[index].save_and_load(&mut self.saved);
    }

    pub(super) fn unmap_page(&mut self, index: usize) {
        let page = self.data_page();
        let vm = &mut self.vms[index];
        let Some(mapping) = vm.memory.mapping(page).filter(|mapping| mapping.present) else { return };
        vm.memory.set_mapping(page, Mapping { present: false, writable: false, ..mapping });
        vm.forget();
        self.counters.moved_pages += 1;
        self.note(index, Action::UnmapPage { page });
    }

    pub(super) fn write_protect(&mut self, index: usize) {
        let page = self.data_page();
        let vm = &mut self.vms[index];
        let Some(mapping) = vm.memory.mapping(page).filter(|mapping| mapping.present) else { return };
        vm.memory.set_mapping(page, Mapping { writable: false, ..mapping });
        vm.forget();
        self.note(index, Action::WriteProtect { page });
    }

    pub(super) fn data_page(&mut self) -> u64 {
        if self.choices.one_in(8) {
            return LARGE_BLOCK + self.choices.below(4);
        }
        DATA.start + self.choices.below(DATA.end - DATA.start)
    }
}
