use std::hint::black_box;

#[repr(align(4096))]
struct Page([u8; 4096]);

#[inline(never)]
fn load(value: u8) -> u8 {
    if value == 0 {
        return 0;
    }
    let mut page = Page([value; 4096]);
    black_box(&mut page).0[0]
}

fn main() {
    println!("{} {}", load(black_box(0)), load(black_box(7)));
}
