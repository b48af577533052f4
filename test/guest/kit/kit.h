// The library of our bare-metal guests: a serial line, ports, interrupts, the timer.
// No libc, one stack, one processor. A guest is a file with `void guest(void)`.
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void guest(void);

// As the file has it; empty without one.
const char* command_line(void);

// What stands before guest(): the serial line and the interrupt controllers as the kit needs
// them. For guests that have spoilt them.
void kit_setup(void);

// Ends the machine with a code through the debug-exit port 0xf4 (QEMU: isa-debug-exit,
// whose exit status is 2 * code + 1).
_Noreturn void finish(uint8_t code);
// "FAIL ..." on the serial line, then finish(1). Understands what say() does.
_Noreturn void fail(const char* format, ...);
// To the serial line. %s text, %c character, %u unsigned, %x hexadecimal, %m six bytes of a
// MAC, %a four bytes of an IPv4 address. "\n" goes out as "\r\n".
void say(const char* format, ...);
void say_bytes(const void* bytes, size_t count);

void* memcpy(void* to, const void* from, size_t count);
void* memset(void* to, int value, size_t count);
int memcmp(const void* a, const void* b, size_t count);
size_t strlen(const char* text);

static inline uint8_t in8(uint16_t port) {
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline uint16_t in16(uint16_t port) {
    uint16_t value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline uint32_t in32(uint16_t port) {
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline void out8(uint16_t port, uint8_t value) {
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
static inline void out16(uint16_t port, uint16_t value) {
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
static inline void out32(uint16_t port, uint32_t value) {
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
// A full barrier without SSE2's mfence.
static inline void barrier(void) {
    __asm__ volatile("lock; addl $0, (%%esp)" : : : "memory", "cc");
}
static inline void interrupts_on(void) {
    __asm__ volatile("sti" : : : "memory");
}
static inline void interrupts_off(void) {
    __asm__ volatile("cli" : : : "memory");
}
// Sleeps until the next interrupt was handled; interrupts are off before and after.
static inline void wait_for_interrupt(void) {
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

// Interrupts: 8259 lines 0..15, unmasked by irq_on(). The handler runs with interrupts off.
void irq_on(unsigned line, void (*handler)(void* context), void* context);
// The same for a PCI line, which is level-triggered.
void irq_on_level(unsigned line, void (*handler)(void* context), void* context);

// Where the next exception goes on, once, instead of failing the guest; 0 = nowhere.
extern volatile uint32_t exception_resume;

// The 8254's channel 0 on line 0, 100 Hz from timer_start() on.
enum { ticks_per_second = 100 };
void timer_start(void);
extern volatile uint32_t ticks;
