; Reduced form of repro.rs. Run: llc -O2 repro.ll -o -
; LLVM 14 also needs -opaque-pointers.
target triple = "x86_64-unknown-linux-gnu"

declare void @use(ptr)

define void @load(i1 %early) nounwind "probe-stack"="inline-asm" {
  %page = alloca [4096 x i8], align 4096
  br i1 %early, label %exit, label %body
body:
  call void @use(ptr %page)
  br label %exit
exit:
  ret void
}
