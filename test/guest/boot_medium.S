# A boot sector for a disk or for a CD-ROM (El Torito without emulation). It reads block 30 of
# what it was started from and prints the text there, or "no medium"; then each key does:
# r reset, x end with code 7 (debug exit), all others read and print again.
    .code16
    .globl _start
_start:
    cld
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    mov %dl, drive
again:
    movw $1, packet + 2     # the firmware wrote there how many came
    mov $0x42, %ah          # extended read
    mov drive, %dl
    mov $packet, %si
    int $0x13
    mov $text, %si
    jnc show
    mov $no_medium, %si
show:
    call print
    mov $ready, %si
    call print
key:
    xor %ax, %ax
    int $0x16
    cmp $'x', %al
    je end
    cmp $'r', %al
    jne again
    mov $0xfe, %al
    out %al, $0x64
1:  hlt
    jmp 1b
end:
    mov $7, %al
    out %al, $0xf4
1:  hlt
    jmp 1b

print:
    lodsb
    test %al, %al
    jz 1f
    mov $0x0e, %ah          # through the firmware's console, behind what it has to say
    mov $7, %bx
    int $0x10
    jmp print
1:  ret

    .balign 4
packet:
    .byte 16, 0
    .word 1                 # block
    .word text, 0
    .quad 30
drive:
    .byte 0
no_medium:
    .asciz "no medium"
ready:
    .asciz " [ready]\r\n"
    .org 510
    .byte 0x55, 0xaa
    .set text, 0x8000
