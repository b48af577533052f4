#include <catch2/catch.hpp>

#include "fakes.h"
#include "machine/device/serial.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

enum : unsigned { rbr, ier, iir, lcr, mcr, lsr, msr, scr };
constexpr unsigned fcr = iir, thr = rbr, out2 = 0x08, loop_back = 0x10;

struct Port {
    SteppedClock clock;
    RecordingInterrupts wires;
    std::string sent;
    Serial serial{wires, 4, clock, [this](Bytes data) { sent += as_text(data); }};

    std::uint8_t get(unsigned index) { return inb(serial, index); }
    void set(unsigned index, unsigned value) { outb(serial, index, value); }
    bool level() const { return wires.lines[4].level; }
    unsigned rises() const { return wires.lines[4].rises; }
    std::size_t type(std::string_view text) { return serial.receive(as_bytes(text)); }
    std::string drain() {
        std::string text;
        while (get(lsr) & 1)
            text += static_cast<char>(get(rbr));
        return text;
    }
    // As a driver does at open: FIFO with the given trigger, interrupts gated through.
    Port& open(unsigned enable, unsigned fifo_control = 0x01) {
        set(fcr, fifo_control);
        set(mcr, out2 | 3);
        set(ier, enable);
        return *this;
    }
};

} // namespace

TEST_CASE("serial: registers after reset") {
    Port port;
    CHECK(port.get(ier) == 0);
    CHECK(port.get(iir) == 0x01);
    CHECK(port.get(lcr) == 0);
    CHECK(port.get(mcr) == 0);
    CHECK(port.get(lsr) == 0x60);
    CHECK(port.get(msr) == 0xb0); // DCD, DSR, CTS on, nothing has changed
    port.set(scr, 0x5a);
    CHECK(port.get(scr) == 0x5a);
}

TEST_CASE("serial: the divisor latch hides data and interrupt enable") {
    Port port;
    port.set(ier, 0x0f);
    port.set(lcr, 0x83);
    port.set(0, 0x01);
    port.set(1, 0x02);
    CHECK(port.get(0) == 0x01);
    CHECK(port.get(1) == 0x02);
    port.set(lcr, 0x03);
    CHECK(port.get(ier) == 0x0f);
    CHECK(port.sent.empty());
    port.set(ier, 0xff);
    CHECK(port.get(ier) == 0x0f); // the upper bits do not exist: no XScale, no 16750
}

TEST_CASE("serial: a 16550A is recognized as Linux and OpenBSD do it") {
    Port port;
    port.set(fcr, 0x01);
    CHECK(port.get(iir) >> 6 == 3);
    port.set(fcr, 0x21); // 64-byte FIFO of a 16750: not here
    CHECK(port.get(iir) >> 5 == 6);
    port.set(lcr, 0xbf); // EFR of a 16650 would read 0
    CHECK(port.get(2) != 0);
    port.set(lcr, 0x00);
    port.set(fcr, 0x00);
    CHECK(port.get(iir) >> 6 == 0);
    // The loop-back test of the modem lines.
    port.set(mcr, loop_back | 0x0a);
    CHECK((port.get(msr) & 0xf0) == 0x90);
}

TEST_CASE("serial: output appears at once and the transmitter stays empty") {
    Port port;
    for (auto c : std::string_view("hello"))
        port.set(thr, static_cast<unsigned char>(c));
    CHECK(port.sent == "hello");
    CHECK(port.get(lsr) == 0x60);
    CHECK(port.rises() == 0);
}

TEST_CASE("serial: the transmitter interrupt") {
    Port port;
    port.open(0);
    SECTION("comes when it is enabled, goes when IIR is read, comes again when enabled again") {
        port.set(ier, 2);
        CHECK(port.level());
        CHECK((port.get(iir) & 0x0f) == 0x02);
        CHECK_FALSE(port.level());
        CHECK((port.get(iir) & 0x0f) == 0x01);
        port.set(ier, 2); // no edge of the enable bit
        CHECK_FALSE(port.level());
        port.set(ier, 0);
        port.set(ier, 2);
        CHECK(port.level());
    }
    SECTION("every character makes a new edge, even when nobody reads IIR") {
        port.set(ier, 2);
        auto before = port.rises();
        port.set(thr, 'a');
        CHECK(port.rises() == before + 1);
        port.set(thr, 'b');
        CHECK(port.rises() == before + 2);
        CHECK(port.level());
    }
    SECTION("is not lost when it is disabled meanwhile") {
        port.set(ier, 2);
        port.set(ier, 0);
        CHECK_FALSE(port.level());
        CHECK((port.get(iir) & 0x0f) == 0x01);
    }
}

TEST_CASE("serial: received bytes wait until there is room") {
    Port port;
    std::string text = "0123456789abcdefghijklmnopqrstuvwxyz";
    unsigned told = 0;
    port.serial.on_receive_space([&] { told++; });
    SECTION("one without FIFO") {
        CHECK(port.type(text) == 1);
        CHECK(port.type("x") == 0);
        CHECK(told == 0);
        CHECK(port.get(rbr) == '0');
        CHECK(told == 1);
        CHECK(port.type("x") == 1);
        CHECK(port.get(rbr) == 'x');
        CHECK(told == 1); // nothing was left over the second time
    }
    SECTION("sixteen with FIFO") {
        port.set(fcr, 0x01);
        CHECK(port.type(text) == 16);
        CHECK(port.drain() == text.substr(0, 16));
        CHECK(told == 1);
        CHECK(port.get(lsr) == 0x60); // no overrun
    }
    SECTION("the handler may deliver at once") {
        port.set(fcr, 0x01);
        std::string_view left = text;
        auto deliver = [&] { left.remove_prefix(port.type(left)); };
        port.serial.on_receive_space(deliver);
        deliver();
        CHECK(port.drain() == text);
        CHECK(left.empty());
    }
    SECTION("clearing the FIFO makes room, too") {
        port.set(fcr, 0x01);
        CHECK(port.type(text) == 16);
        port.set(fcr, 0x03);
        CHECK(told == 1);
        CHECK((port.get(lsr) & 1) == 0);
    }
}

TEST_CASE("serial: the receiver's interrupt") {
    Port port;
    SECTION("without FIFO") {
        port.open(1, 0);
        port.type("a");
        CHECK(port.level());
        CHECK(port.get(iir) == 0x04);
        CHECK(port.level()); // reading IIR does not answer it
        CHECK(port.get(rbr) == 'a');
        CHECK_FALSE(port.level());
    }
    SECTION("below the trigger level the reason is the character time-out") {
        port.open(1, 0x81); // trigger at 8
        port.type("1234567");
        CHECK(port.level());
        CHECK(port.get(iir) == 0xcc);
        port.type("8");
        CHECK(port.get(iir) == 0xc4);
        port.drain();
        CHECK_FALSE(port.level());
        CHECK(port.get(iir) == 0xc1);
    }
    SECTION("not without OUT2, the gate of the PC") {
        port.open(1);
        port.set(mcr, 3);
        port.type("a");
        CHECK_FALSE(port.level());
        CHECK(port.get(iir) == 0xc4); // the chip itself reports it
        port.set(mcr, 3 | out2);
        CHECK(port.level());
    }
}

TEST_CASE("serial: priorities of the interrupt reasons") {
    Port port;
    port.open(0x0f);
    port.set(mcr, out2 | loop_back); // DSR and CTS fall: modem status
    port.set(mcr, out2);
    port.type("a");
    port.drain();
    port.serial.receive_break();
    CHECK((port.get(iir) & 0x0f) == 0x06);
    CHECK((port.get(lsr) & 0x10) != 0);
    CHECK((port.get(iir) & 0x0f) == 0x04);
    CHECK(port.get(rbr) == 0);
    CHECK((port.get(iir) & 0x0f) == 0x02);
    CHECK((port.get(iir) & 0x0f) == 0x00);
    CHECK((port.get(msr) & 0x0f) != 0);
    CHECK((port.get(iir) & 0x0f) == 0x01);
    CHECK_FALSE(port.level());
}

TEST_CASE("serial: a break stands in its place in the FIFO") {
    Port port;
    port.open(0x05);
    port.type("ab");
    port.serial.receive_break();
    CHECK(port.get(lsr) == 0xe1); // an error is in the FIFO, but not at its top
    CHECK(port.get(rbr) == 'a');
    CHECK(port.get(rbr) == 'b');
    CHECK(port.get(lsr) == 0xf1);
    CHECK(port.get(lsr) == 0x61); // reading cleared it
    CHECK(port.get(rbr) == 0);
    SECTION("and is not lost when the FIFO is full") {
        CHECK(port.type("0123456789abcdef") == 16);
        port.serial.receive_break();
        CHECK(port.type("x") == 0); // must not overtake the break
        for (int i = 0; i < 16; i++) {
            CHECK((port.get(lsr) & 0x11) == 0x01);
            (void)port.get(rbr);
        }
        CHECK((port.get(lsr) & 0x11) == 0x11);
        CHECK(port.get(rbr) == 0);
        CHECK((port.get(lsr) & 0x01) == 0);
    }
}

TEST_CASE("serial: loop-back") {
    Port port;
    unsigned told = 0;
    port.serial.on_receive_space([&] { told++; });
    port.open(0);
    port.set(mcr, loop_back);
    SECTION("the transmitter feeds the receiver and nothing gets out") {
        port.set(thr, 'x');
        CHECK(port.sent.empty());
        CHECK(port.drain() == "x");
    }
    SECTION("the seventeenth character overruns") {
        for (int i = 0; i < 17; i++)
            port.set(thr, 'a' + static_cast<unsigned>(i));
        CHECK(port.get(lsr) == 0x63);
        CHECK(port.get(lsr) == 0x61);
        CHECK(port.drain() == "abcdefghijklmnop");
    }
    SECTION("without FIFO the new character replaces the old") {
        port.set(fcr, 0);
        port.set(thr, 'a');
        port.set(thr, 'b');
        CHECK((port.get(lsr) & 0x03) == 0x03);
        CHECK(port.get(rbr) == 'b');
    }
    SECTION("the line waits until it is over") {
        CHECK(port.type("abc") == 0);
        port.serial.receive_break();
        CHECK((port.get(lsr) & 1) == 0);
        CHECK(told == 0);
        port.set(mcr, out2);
        CHECK((port.get(lsr) & 0x11) == 0x11);
        CHECK(port.get(rbr) == 0);
        CHECK(told == 1);
    }
    SECTION("each modem output comes back on its input") {
        struct {
            unsigned out, in;
        } pairs[] = {{0x01, 0x20}, {0x02, 0x10}, {0x04, 0x40}, {0x08, 0x80}};
        for (auto pair : pairs) {
            port.set(mcr, loop_back | pair.out);
            CHECK((port.get(msr) & 0xf0U) == pair.in);
        }
    }
    SECTION("of the ring only the trailing edge is reported") {
        (void)port.get(msr);
        port.set(mcr, loop_back | 0x04);
        CHECK(port.get(msr) == 0x40);
        port.set(mcr, loop_back);
        CHECK(port.get(msr) == 0x04);
        CHECK(port.get(msr) == 0x00);
    }
}

TEST_CASE("serial: the transmitter test of Linux's 8250 driver sees a sound chip") {
    Port port;
    port.open(0);
    port.set(ier, 2);
    auto first = port.get(iir);
    port.set(ier, 0);
    port.set(ier, 2);
    auto again = port.get(iir);
    port.set(ier, 0);
    CHECK_FALSE(first & 1);
    CHECK_FALSE(again & 1);
    CHECK_FALSE(port.level());
}

TEST_CASE("serial: every access of every size") {
    Port port;
    port.type("abc");
    abuse(port.serial, Serial::port_count);
    port.serial.receive_break();
    abuse(port.serial, Serial::port_count);
    // A wide access touches the registers one after another.
    port.set(lcr, 0x03);
    port.set(mcr, 0);
    out<std::uint16_t>(port.serial, lcr, 0x0903);
    CHECK(port.get(lcr) == 0x03);
    CHECK(port.get(mcr) == 0x09);
}
