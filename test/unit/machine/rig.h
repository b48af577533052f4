// A machine under test: its console, its end, and images from memory.
#pragma once

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "machine/console/frames.h"
#include "machine/machine.h"

namespace vmhost::test {

using namespace machine;
using namespace std::chrono_literals;

inline Fd file_of(Bytes bytes) {
    Fd file(::memfd_create("test", MFD_CLOEXEC));
    REQUIRE(::write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    return file;
}

inline Fd firmware(std::initializer_list<int> code) {
    std::vector<std::uint8_t> image(64 * KiB, 0x90);
    auto at = image.begin();
    for (int one : code)
        *at++ = static_cast<std::uint8_t>(one);
    image[0xfff0] = 0xe9; // jmp to offset 0
    image[0xfff1] = 0x0d;
    image[0xfff2] = 0x00;
    return file_of(image);
}

struct Rig {
    Fd kvm{::open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    Fd image;
    Loop loop;
    std::unique_ptr<Console> console = Console::create(loop);
    Fd client;
    ConsoleFrameReader frames;
    std::string output;
    MachineSpec spec;
    std::unique_ptr<Machine> machine;
    std::vector<MachineEnd> ends;
    bool timed_out = false;

    Rig() {
        auto [ours, theirs] = socket_pair(SOCK_STREAM).value();
        REQUIRE(console->attach(std::move(theirs), true));
        client = std::move(ours);
        spec.name = "test";
        spec.memory_bytes = 8 * MiB;
        spec.kvm_fd = kvm.get();
        spec.debug_exit = true;
    }
    Result<void> try_build() {
        machine = TRY(Machine::build(loop, spec, *console, [this](MachineEnd end) {
            ends.push_back(std::move(end));
            loop.stop();
        }));
        return {};
    }
    void build() {
        if (auto made = try_build(); !made)
            FAIL(made.error().message());
    }
    void run(std::initializer_list<int> code) {
        image = firmware(code);
        spec.boot.image_fd = image.get();
        build();
        REQUIRE(machine->start());
    }
    Error refuse() {
        auto made = Machine::build(loop, spec, *console, {});
        REQUIRE_FALSE(made);
        return made.error();
    }
    void read_console() {
        std::uint8_t buffer[4096];
        for (;;) {
            auto count = ::recv(client.get(), buffer, sizeof buffer, MSG_DONTWAIT);
            if (count <= 0)
                return;
            REQUIRE(frames.feed(Bytes(buffer, static_cast<std::size_t>(count)),
                                [this](ConsoleFrame kind, Bytes data) {
                                    if (kind == ConsoleFrame::data)
                                        output += as_text(data);
                                }));
        }
    }
    void type(std::string_view text) {
        auto frame = encode_console_frame(ConsoleFrame::data, as_bytes(text));
        REQUIRE(::send(client.get(), frame.data(), frame.size(), 0) ==
                static_cast<ssize_t>(frame.size()));
    }
    // Until the machine ends, or text appears on the console.
    void wait(std::string_view text = {}) {
        Timer guard(loop, [this] { timed_out = true; });
        guard.start(20s);
        while (ends.empty() && !timed_out) {
            loop.run_once(true);
            read_console();
            if (!text.empty() && output.find(text) != std::string::npos)
                break;
        }
        for (unsigned turn = 0; turn < 10; ++turn) {
            loop.run_once(false); // the rest of the output, and no second end
            read_console();
        }
        CHECK_FALSE(timed_out);
    }
    MachineEnd end() {
        wait();
        REQUIRE(ends.size() == 1);
        return ends[0];
    }
};

} // namespace vmhost::test
