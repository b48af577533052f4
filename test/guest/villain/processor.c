// Unknown model-specific registers read and written, every CPUID leaf range, local APIC and
// I/O APIC registers. An access may fault; the machine goes on.
//
// Registers that the processor or KVM knows are read and not written: this topic is about what
// is unknown, and a villain must not test the host's kernel.
#include "villain.h"

static unsigned reads, writes, faults;

static void read_register(uint32_t index) {
    uint32_t low = 0, high = 0, good = 0;
    __asm__ volatile("movl $1f, exception_resume\n\t"
                     "rdmsr\n\t"
                     "incl %0\n"
                     "1:\tmovl $0, exception_resume"
                     : "+r"(good), "+a"(low), "+d"(high)
                     : "c"(index)
                     : "memory");
    good ? reads++ : faults++;
}
static void write_register(uint32_t index, uint32_t low, uint32_t high) {
    uint32_t good = 0;
    __asm__ volatile("movl $1f, exception_resume\n\t"
                     "wrmsr\n\t"
                     "incl %0\n"
                     "1:\tmovl $0, exception_resume"
                     : "+r"(good)
                     : "a"(low), "d"(high), "c"(index)
                     : "memory");
    good ? writes++ : faults++;
}

static void registers(void) {
    static const uint32_t starts[] = {0,          0x400,      0x1000,     0xc0000000, 0xc0000080,
                                      0xc0010000, 0xc0011000, 0x40000000, 0x4b564d00, 0x80000000,
                                      0xffffff00};
    for (unsigned s = 0; s < sizeof starts / sizeof *starts; s++)
        for (uint32_t i = 0; i < 256; i++)
            read_register(starts[s] + i);
    for (uint32_t index = 0x5000; index < 0x5100; index++) {
        write_register(index, 0, 0);
        write_register(index, ~0u, ~0u);
        read_register(index);
    }
    for (uint32_t index = 0xdead0000; index < 0xdead0100; index++)
        write_register(index, ~0u, ~0u);
}

static void leaves(void) {
    static const uint32_t starts[] = {0, 0x40000000, 0x40000100, 0x80000000, 0xc0000000, ~0u - 32};
    for (unsigned s = 0; s < sizeof starts / sizeof *starts; s++)
        for (uint32_t leaf = 0; leaf < 33; leaf++)
            for (uint32_t subleaf = 0; subleaf < 5; subleaf++) {
                uint32_t a = starts[s] + leaf, b, c = subleaf == 4 ? ~0u : subleaf, d;
                __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
            }
}

// Not the registers that send interrupts (ICR), the enable bit, nor the local vectors: written while it
// is off they come out masked, and the 8259's way into the processor is one of them.
static void controllers(void) {
    for (uint32_t offset = 0; offset < 0x1000; offset += 16) {
        volatile uint32_t* apic = (volatile uint32_t*)(0xfee00000 + offset);
        (void)*apic;
        if (offset != 0xf0 && (offset < 0x300 || offset > 0x370))
            *apic = *apic;
        (void)*(volatile uint8_t*)(0xfee00003 + offset);
        (void)*(volatile uint32_t*)(0xfec00000 + offset);
        *(volatile uint32_t*)(0xfec00000 + offset) = offset < 32 ? 0x3f : ~0u;
    }
    for (unsigned index = 0; index < 256; index++) {
        *(volatile uint32_t*)0xfec00000 = index;
        (void)*(volatile uint32_t*)0xfec00010;
        if (index < 16 || index > 0x3f)
            *(volatile uint32_t*)0xfec00010 = ~0u;
    }
}

// Memory that is not there, byte by byte over the ends of what is.
static void holes(void) {
    static const uint32_t places[] = {ram_end, 0xc0000000, 0xdffffff0, 0xe0003ff8, 0xfebffff8,
                                      0xfed00000, 0xfffbfff8, 0xfffffff0};
    for (unsigned p = 0; p < sizeof places / sizeof *places; p++)
        for (uint32_t i = 0; i < 12; i++) {
            (void)*(volatile uint32_t*)(places[p] + i);
            *(volatile uint32_t*)(places[p] + i) = ~0u;
            (void)*(volatile uint16_t*)(places[p] + i);
        }
}

void guest(void) {
    find_functions();
    leaves();
    registers();
    say("villain: %u registers read, %u written, %u faults\n", reads, writes, faults);
    holes();
    controllers();
    find_functions();
    survive("processor");
}
