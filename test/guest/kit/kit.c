// Serial output, interrupts (8259 pair, Intel 8259A data sheet), timer (8254).
#include "kit.h"

enum { serial = 0x3f8, debug_exit = 0xf4 };

void finish(uint8_t code) {
    interrupts_off();
    out8(debug_exit, code);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void put(char character) {
    for (unsigned tries = 0; tries < 1000000 && !(in8(serial + 5) & 0x20); tries++)
        ;
    out8(serial, (uint8_t)character);
}

static void put_character(char character) {
    if (character == '\n')
        put('\r');
    put(character);
}

void say_bytes(const void* bytes, size_t count) {
    for (const char* at = bytes; count > 0; count--)
        put_character(*at++);
}

static void put_number(uint32_t value, unsigned base, unsigned min_digits) {
    char digits[12];
    unsigned count = 0;
    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0 || count < min_digits);
    while (count > 0)
        put(digits[--count]);
}

static void put_parts(const uint8_t* bytes, unsigned count, char between, unsigned base,
                      unsigned min_digits) {
    for (unsigned i = 0; i < count; i++) {
        if (i > 0)
            put(between);
        put_number(bytes[i], base, min_digits);
    }
}

static void say_list(const char* format, va_list list) {
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            put_character(*format);
            continue;
        }
        switch (*++format) {
        case 's': {
            const char* text = va_arg(list, const char*);
            say_bytes(text, strlen(text));
            break;
        }
        case 'c':
            put_character((char)va_arg(list, int));
            break;
        case 'u':
            put_number(va_arg(list, uint32_t), 10, 1);
            break;
        case 'x':
            put_number(va_arg(list, uint32_t), 16, 1);
            break;
        case 'm':
            put_parts(va_arg(list, const uint8_t*), 6, ':', 16, 2);
            break;
        case 'a':
            put_parts(va_arg(list, const uint8_t*), 4, '.', 10, 1);
            break;
        default:
            put_character(*format);
        }
    }
}

void say(const char* format, ...) {
    va_list list;
    va_start(list, format);
    say_list(format, list);
    va_end(list);
}

void fail(const char* format, ...) {
    va_list list;
    va_start(list, format);
    say("FAIL ");
    say_list(format, list);
    say("\n");
    va_end(list);
    finish(1);
}

void* memcpy(void* to, const void* from, size_t count) {
    uint8_t* into = to;
    for (const uint8_t* at = from; count > 0; count--)
        *into++ = *at++;
    return to;
}
void* memset(void* to, int value, size_t count) {
    for (uint8_t* into = to; count > 0; count--)
        *into++ = (uint8_t)value;
    return to;
}
int memcmp(const void* a, const void* b, size_t count) {
    const uint8_t *left = a, *right = b;
    for (; count > 0; count--, left++, right++)
        if (*left != *right)
            return *left - *right;
    return 0;
}
size_t strlen(const char* text) {
    size_t count = 0;
    while (text[count] != '\0')
        count++;
    return count;
}

// ---- interrupts

enum {
    pic1 = 0x20,
    pic2 = 0xa0,
    first_vector = 0x20,
    end_of_interrupt = 0x20,
    read_in_service = 0x0b,
    trigger_modes = 0x4d0, // ELCR: one bit a line, 1 = level
};

struct gate {
    uint16_t offset_low, selector;
    uint8_t zero, type;
    uint16_t offset_high;
};
struct frame {
    uint32_t edi, esi, ebp, esp, ebx, edx, ecx, eax;
    uint32_t vector, error, eip, cs, eflags;
};

extern const uint32_t kit_stubs[48];
static struct gate gates[48];
static struct {
    void (*handler)(void*);
    void* context;
} lines[16];

void kit_interrupt(struct frame* frame);
void kit_main(const uint32_t* start_info);

volatile uint32_t exception_resume;

void kit_interrupt(struct frame* frame) {
    if (frame->vector < first_vector && exception_resume != 0) {
        frame->eip = exception_resume;
        exception_resume = 0;
        return;
    }
    if (frame->vector < first_vector) {
        say("FAIL exception %u error %x at %x\n", frame->vector, frame->error, frame->eip);
        finish(2);
    }
    unsigned line = frame->vector - first_vector;
    // Lines 7 and 15 come spuriously when a request goes away again; such a one is not in service.
    if (line == 7 || line == 15) {
        uint16_t chip = line == 7 ? pic1 : pic2;
        out8(chip, read_in_service);
        if (!(in8(chip) & 0x80)) {
            if (line == 15)
                out8(pic1, end_of_interrupt);
            return;
        }
    }
    if (lines[line].handler != NULL)
        lines[line].handler(lines[line].context);
    if (line >= 8)
        out8(pic2, end_of_interrupt);
    out8(pic1, end_of_interrupt);
}

static void interrupts_init(void) {
    for (unsigned i = 0; i < 48; i++)
        gates[i] = (struct gate){.offset_low = (uint16_t)kit_stubs[i],
                                 .selector = 8,
                                 .type = 0x8e,
                                 .offset_high = (uint16_t)(kit_stubs[i] >> 16)};
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) pointer = {sizeof gates - 1, (uint32_t)gates};
    __asm__ volatile("lidt %0" : : "m"(pointer));

    // Initialization words 1..4: cascade on line 2, 8086 mode; everything masked.
    out8(pic1, 0x11);
    out8(pic2, 0x11);
    out8(pic1 + 1, first_vector);
    out8(pic2 + 1, first_vector + 8);
    out8(pic1 + 1, 4);
    out8(pic2 + 1, 2);
    out8(pic1 + 1, 1);
    out8(pic2 + 1, 1);
    out8(pic1 + 1, 0xfb);
    out8(pic2 + 1, 0xff);
}

void irq_on(unsigned line, void (*handler)(void* context), void* context) {
    if (line > 15)
        fail("interrupt line %u does not exist", line);
    lines[line].handler = handler;
    lines[line].context = context;
    uint16_t mask = line < 8 ? pic1 + 1 : pic2 + 1;
    out8(mask, in8(mask) & (uint8_t) ~(1u << (line & 7)));
}

void irq_on_level(unsigned line, void (*handler)(void* context), void* context) {
    uint16_t modes = trigger_modes + line / 8;
    out8(modes, in8(modes) | (uint8_t)(1u << (line & 7)));
    irq_on(line, handler, context);
}

// ---- timer

volatile uint32_t ticks;

static void tick(void* context) {
    (void)context;
    ticks = ticks + 1;
}

void timer_start(void) {
    const uint32_t divisor = 1193182 / ticks_per_second;
    irq_on(0, tick, NULL);
    out8(0x43, 0x34); // channel 0, low then high byte, mode 2: rate generator
    out8(0x40, (uint8_t)divisor);
    out8(0x40, (uint8_t)(divisor >> 8));
}

// struct hvm_start_info (Xen, public/arch-x86/hvm/start_info.h): 24 is the command line.
static const uint32_t* started_with;
const char* command_line(void) {
    const uint32_t address = started_with[6];
    return address == 0 ? "" : (const char*)address;
}

void kit_setup(void) {
    out8(serial + 1, 0);    // no serial interrupts
    out8(serial + 3, 0x80); // divisor 1: 115200 baud
    out8(serial + 0, 1);
    out8(serial + 1, 0);
    out8(serial + 3, 3); // 8n1
    interrupts_init();
}

void kit_main(const uint32_t* start_info) {
    started_with = start_info;
    kit_setup();
    guest();
    finish(0);
}
