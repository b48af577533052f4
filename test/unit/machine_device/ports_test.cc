#include <catch2/catch.hpp>

#include "fakes.h"
#include "machine/device/debug_console.h"
#include "machine/device/debug_exit.h"
#include "machine/device/port_stub.h"
#include "machine/device/reset.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

struct Keyboard {
    unsigned resets = 0;
    KeyboardController controller{[this] { resets++; }};

    unsigned status() { return inb(controller.command_port(), 0); }
    unsigned data() { return inb(controller.data_port(), 0); }
    void command(unsigned value) { outb(controller.command_port(), 0, value); }
    void send(unsigned value) { outb(controller.data_port(), 0, value); }
    // The reply to a command, or 0x100 when there is none to fetch.
    unsigned reply(unsigned value) {
        command(value);
        return status() & 1 ? data() : 0x100;
    }
};

} // namespace

TEST_CASE("keyboard controller: the ways to reset") {
    Keyboard keyboard;
    SECTION("pulsing the line, whatever is pulsed with it") {
        for (unsigned value = 0xf0; value <= 0xff; value++)
            keyboard.command(value);
        CHECK(keyboard.resets == 8); // the even ones
    }
    SECTION("0xfe, as everybody does it") {
        keyboard.command(0xfe);
        CHECK(keyboard.resets == 1);
    }
    SECTION("the output port with bit 0 clear") {
        keyboard.command(0xd1);
        keyboard.send(0xdf);
        CHECK(keyboard.resets == 0);
        keyboard.command(0xd1);
        keyboard.send(0xde);
        CHECK(keyboard.resets == 1);
        keyboard.send(0xfe); // without the command it is for the keyboard
        CHECK(keyboard.resets == 1);
    }
    SECTION("nothing else") {
        for (unsigned value = 0; value < 0xf0; value++) {
            keyboard.command(value);
            keyboard.send(0xff);
        }
        CHECK(keyboard.resets == 0);
    }
}

TEST_CASE("keyboard controller: a probe finds a controller and no keyboard") {
    Keyboard keyboard;
    CHECK(keyboard.status() == 0x10); // nothing to read, ready to be written
    CHECK(keyboard.reply(0xaa) == 0x55);
    CHECK((keyboard.status() & 0x05) == 0x04);
    CHECK(keyboard.reply(0xab) == 0x00);
    CHECK(keyboard.reply(0xa9) != 0x00); // no mouse port
    CHECK(keyboard.reply(0xad) == 0x100);
    SECTION("the command byte keeps what was written") {
        keyboard.command(0x60);
        keyboard.send(0x61);
        CHECK(keyboard.reply(0x20) == 0x61);
        CHECK(keyboard.reply(0xad) == 0x100);
        CHECK(keyboard.reply(0x20) == 0x71);
        CHECK(keyboard.reply(0xae) == 0x100);
        CHECK(keyboard.reply(0x20) == 0x61);
    }
    SECTION("a byte for the keyboard times out at once") {
        keyboard.send(0xff);
        CHECK((keyboard.status() & 0x41) == 0x41);
        CHECK(keyboard.data() == 0xfe);
        CHECK((keyboard.status() & 0x41) == 0);
    }
    SECTION("so does one for the mouse, and the mouse loop-back brings no mouse byte") {
        for (unsigned value : {0xd4, 0xd3}) {
            keyboard.command(value);
            keyboard.send(0x5a);
            CHECK((keyboard.status() & 0x21) == 0x01);
            CHECK(keyboard.data() == 0xfe);
        }
    }
    SECTION("the input buffer is never full") {
        for (unsigned value = 0; value < 0xf0; value++) {
            keyboard.command(value);
            CHECK((keyboard.status() & 0x02) == 0);
        }
    }
}

TEST_CASE("keyboard controller: the A20 gate reads back") {
    Keyboard keyboard;
    CHECK(keyboard.reply(0xd0) == 0x03);
    keyboard.command(0xdd);
    CHECK(keyboard.reply(0xd0) == 0x01);
    keyboard.command(0xd1);
    keyboard.send(0xdf);
    CHECK(keyboard.reply(0xd0) == 0xdf);
}

TEST_CASE("port a: fast reset, and A20 is open") {
    unsigned resets = 0;
    PortA port([&] { resets++; });
    CHECK(inb(port, 0) == 0x02);
    outb(port, 0, 0x02);
    CHECK(resets == 0);
    outb(port, 0, 0x00);
    CHECK(inb(port, 0) == 0x02);
    outb(port, 0, 0x03);
    CHECK(resets == 1);
    CHECK(inb(port, 0) == 0x02);
}

TEST_CASE("debug exit hands over the code") {
    std::vector<unsigned> codes;
    DebugExit port([&](std::uint8_t code) { codes.push_back(code); });
    outb(port, 0, 0);
    outb(port, 0, 42);
    (void)inb(port, 0);
    CHECK(codes == std::vector<unsigned>{0, 42});
}

TEST_CASE("debug console answers SeaBIOS and hands over the text") {
    std::string text;
    DebugConsole port([&](Bytes data) { text += as_text(data); });
    CHECK(inb(port, 0) == 0xe9);
    for (auto c : std::string_view("SeaBIOS"))
        outb(port, 0, static_cast<unsigned char>(c));
    CHECK(text == "SeaBIOS");
}

TEST_CASE("single ports: every access of every size, and without handlers") {
    KeyboardController keyboard{{}};
    PortA port_a{{}};
    PostPort post;
    DebugExit debug_exit{{}};
    DebugConsole debug_console{{}};
    for (Device* device :
         std::initializer_list<Device*>{&keyboard.data_port(), &keyboard.command_port(), &port_a,
                                        &post, &debug_exit, &debug_console}) {
        CHECK_FALSE(device->name().empty());
        abuse(*device, 8);
    }
    outb(post, 0, 0x5a);
    CHECK(inb(post, 0) == 0x5a);
}
