// The second processor's way from its start-up interrupt to second_processor(): copied below
// 1 MiB, entered in real mode at a page, leaves in flat protected mode like start.S.
    .section .rodata
    .global second_start, second_end
    .code16
second_start:
    cli
    cs lgdtl (second_gdt_pointer - second_start)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $8, $second_protected
    .align 4
second_gdt_pointer:
    .word second_gdt_end - second_gdt - 1
    .long second_gdt
second_end:

    .align 8
second_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
second_gdt_end:

    .text
    .code32
second_protected:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $second_stack, %esp
    call second_processor
1:  cli
    hlt
    jmp 1b

    .section .bss
    .align 16
    .skip 4096
second_stack:

    .section .note.GNU-stack, "", @progbits
