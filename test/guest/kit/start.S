// The first and last instructions of a guest of ours, and its interrupt stubs.
//
// Entered by the PVH protocol (Xen docs/misc/pvh.pandoc): 32-bit protected mode, flat
// segments, paging off, interrupts off, %ebx = start info. It stays that way: no paging,
// no FPU, no SSE, so that every KVM and every emulator can run it.
    .section .note.PVH, "a", @note
    .align 4
    .long 4, 4, 18              // name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long start

    .section .text.start, "ax"
    .global start
start:
    cld
    cli
    movl $stack_top, %esp
    lgdt gdt_pointer
    ljmp $8, $1f
1:  movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    pushl %ebx
    call kit_main
    // not reached

    .section .rodata
    .align 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    // 8: code, flat 4 GiB
    .quad 0x00cf93000000ffff    // 16: data
gdt_pointer:
    .word . - gdt - 1
    .long gdt

// Stubs: push the vector (and a zero where the processor pushes no error code).
    .text
    .macro stub vector
    .align 16
stub_\vector:
    .if !(\vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17 || \vector == 21)
    pushl $0
    .endif
    pushl $\vector
    jmp stub_common
    .endm

    .altmacro
    .set number, 0
    .rept 48
    stub %number
    .set number, number + 1
    .endr

stub_common:
    pusha
    movl %esp, %eax
    pushl %eax
    call kit_interrupt
    addl $4, %esp
    popa
    addl $8, %esp
    // What iret does without a change of privilege; KVM's instruction emulator, on hosts
    // that run all of ring 0 through it, has no iret in protected mode.
    // Now: eip, cs, eflags. Wanted: (unused), eflags, eip.
    pushl %eax
    movl 4(%esp), %eax
    xchgl %eax, 12(%esp)
    movl %eax, 8(%esp)
    popl %eax
    addl $4, %esp
    popfl
    ret

    .section .rodata
    .align 4
    .global kit_stubs
kit_stubs:
    .macro address vector
    .long stub_\vector
    .endm
    .set number, 0
    .rept 48
    address %number
    .set number, number + 1
    .endr

    .section .bss
    .align 16
    .skip 16384
stack_top:

    .section .note.GNU-stack, "", @progbits
