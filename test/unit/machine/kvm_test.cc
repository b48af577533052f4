// The KVM backend under tiny guests of machine code, written as bytes. Ends with
// status 77 (skipped) where there is no usable /dev/kvm. The guests keep to real mode
// and 32-bit protected mode without paging.
#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <future>
#include <linux/kvm.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <thread>
#include <unistd.h>

#include "machine/cpu/saved.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace std::chrono_literals;

namespace {

[[maybe_unused]] const bool have_kvm = [] {
    Fd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (kvm && ::ioctl(kvm.get(), KVM_GET_API_VERSION, 0) == KVM_API_VERSION)
        return true;
    std::fputs("skipped: no usable /dev/kvm\n", stderr);
    std::_Exit(77);
}();

Fd open_kvm() {
    return Fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
}

// Port 0xf4 (and wherever else a test puts it): notes what is written, answers reads with a
// counter, and calls back.
class Port : public Device {
public:
    std::string_view name() const override { return "test port"; }
    void read(std::uint64_t offset, MutableBytes data) override {
        for (auto& byte : data)
            byte = static_cast<std::uint8_t>(offset + 0x30);
        ++reads;
    }
    void write(std::uint64_t offset, Bytes data) override {
        std::uint64_t value = 0;
        std::memcpy(&value, data.data(), data.size());
        writes.push_back({offset, data.size(), value});
        if (on_write)
            on_write();
    }
    struct Write {
        std::uint64_t offset;
        std::size_t size;
        std::uint64_t value;
        bool operator==(const Write&) const = default;
    };
    std::vector<Write> writes;
    unsigned reads = 0;
    std::function<void()> on_write;
};

constexpr Gpa code_at = 0x1000;
constexpr std::uint64_t ram_bytes = 64 * KiB;

struct Guest {
    Bus bus;
    Port port;
    GuestMemory memory;
    std::unique_ptr<Backend> backend;
    std::vector<std::unique_ptr<Vcpu>> vcpus;

    explicit Guest(unsigned count = 1) {
        auto made = create_kvm_backend(open_kvm());
        if (!made)
            FAIL(made.error().message());
        backend = *std::move(made);
        REQUIRE(memory.add(0, ram_bytes, true));
        REQUIRE(backend->map(memory.ranges()[0], false));
        REQUIRE(bus.insert(Space::port, 0xf4, 4, port));
        for (unsigned i = 0; i < count; ++i) {
            auto vcpu =
                backend->create_vcpu(i, make_cpu_model(backend->capabilities(), i, count), bus);
            if (!vcpu)
                FAIL(vcpu.error().message());
            vcpus.push_back(*std::move(vcpu));
        }
        port.on_write = [this] { vcpus[0]->kick(); };
    }
    void load(Gpa where, std::initializer_list<int> code) {
        std::vector<std::uint8_t> bytes;
        for (int one : code)
            bytes.push_back(static_cast<std::uint8_t>(one));
        REQUIRE(memory.write(where, bytes));
    }
    void start_real(std::initializer_list<int> code) {
        load(code_at, code);
        auto state = CpuState::reset();
        state.cs.base = 0;
        state.cs.selector = 0;
        state.rip = code_at;
        state.rsp = 0x8000;
        REQUIRE(vcpus[0]->set_state(state));
    }
    void start_flat(std::initializer_list<int> code) {
        load(code_at, code);
        auto state = CpuState::flat_protected();
        state.rip = code_at;
        state.rsp = 0x8000;
        REQUIRE(vcpus[0]->set_state(state));
    }
    // Runs on a thread of its own, as a machine does; kicks after a while so that no test hangs.
    Exit run(unsigned index = 0, std::chrono::milliseconds at_most = 10s) {
        auto running = std::async(std::launch::async, [&] { return vcpus[index]->run(); });
        if (running.wait_for(at_most) != std::future_status::ready) {
            vcpus[index]->kick();
            auto exit = running.get();
            exit.text = "timed out";
            return exit;
        }
        return running.get();
    }
    void expect_kicked(const Exit& exit) {
        CHECK(exit.text == "");
        CHECK(exit.reason == Exit::Reason::kicked);
    }
};

} // namespace

TEST_CASE("port output and input in every size") {
    Guest guest;
    guest.port.on_write = [&] {
        if (guest.port.writes.size() == 4)
            guest.vcpus[0]->kick();
    };
    guest.start_real({
        0xb0, 0x42,       // mov al, 0x42
        0xe6, 0xf4,       // out 0xf4, al
        0xe4, 0xf5,       // in al, 0xf5: 0x31
        0xe6, 0xf6,       // out 0xf6, al
        0xe5, 0xf4,       // in ax, 0xf4
        0xe7, 0xf4,       // out 0xf4, ax
        0x66, 0xe7, 0xf4, // out 0xf4, eax
        0xeb, 0xfe,       // jmp .
    });
    guest.expect_kicked(guest.run());
    REQUIRE(guest.port.writes.size() == 4);
    CHECK(guest.port.writes[0] == Port::Write{0, 1, 0x42});
    CHECK(guest.port.writes[1] == Port::Write{2, 1, 0x31});
    CHECK(guest.port.writes[2] == Port::Write{0, 2, 0x3030});
    CHECK(guest.port.writes[3].size == 4);
    CHECK(guest.port.reads == 2);
    // The access that kicked is complete: the guest stands at the endless loop.
    CHECK(guest.vcpus[0]->state()->rip == code_at + 15);
}

TEST_CASE("string instructions deliver every item") {
    Guest guest;
    guest.port.on_write = [&] {
        if (guest.port.writes.size() == 5)
            guest.vcpus[0]->kick();
    };
    guest.load(0x2000, {'h', 'e', 'l', 'l', 'o'});
    guest.start_real({
        0xba, 0xf4, 0x00, // mov dx, 0xf4
        0xbe, 0x00, 0x20, // mov si, 0x2000
        0xb9, 0x05, 0x00, // mov cx, 5
        0xf3, 0x6e,       // rep outsb
        0xb9, 0x03, 0x00, // mov cx, 3
        0xbf, 0x00, 0x30, // mov di, 0x3000
        0xf3, 0x6c,       // rep insb
        0xb0, 0x00,       // mov al, 0
        0xe6, 0xf4,       // out 0xf4, al
        0xeb, 0xfe,
    });
    guest.expect_kicked(guest.run());
    std::string text;
    for (const auto& write : guest.port.writes)
        text += static_cast<char>(write.value);
    CHECK(text.substr(0, 5) == "hello");
    guest.port.on_write = [&] { guest.vcpus[0]->kick(); };
    guest.expect_kicked(guest.run());
    CHECK(guest.memory.read_le<std::uint32_t>(0x3000) == 0x00303030U);
}

TEST_CASE("memory accesses outside RAM reach the bus, or nobody") {
    Guest guest;
    Port registers;
    registers.on_write = [&] { guest.vcpus[0]->kick(); };
    REQUIRE(guest.bus.insert(Space::memory, 0xe0000000, 0x1000, registers));
    guest.start_flat({
        0xa1, 0x00, 0x00, 0x00, 0xd0,             // mov eax, [0xd0000000]: nobody
        0x8b, 0x1d, 0x08, 0x00, 0x00, 0xe0,       // mov ebx, [0xe0000008]
        0xc6, 0x05, 0x0c, 0x00, 0x00, 0xe0, 0x77, // mov byte [0xe000000c], 0x77
        0xeb, 0xfe,
    });
    guest.expect_kicked(guest.run());
    CHECK(registers.writes == std::vector<Port::Write>{{0xc, 1, 0x77}});
    auto state = guest.vcpus[0]->state().value();
    CHECK(state.rax == 0xffffffff);
    CHECK(state.rbx == 0x38383838);
    CHECK(guest.bus.counters().unclaimed_reads == 1);
}

TEST_CASE("HLT waits in the kernel; a PCI line is level-triggered from the start") {
    Guest guest;
    guest.load(0x25 * 4, {0x00, 0x11, 0x00, 0x00}); // line 5 → 0000:1100
    guest.load(0x1100, {
                           0xb0, 0x05, 0xe6, 0xf4, // mov al, 5; out 0xf4, al
                           0xb0, 0x20, 0xe6, 0x20, // end of interrupt
                           0xcf,                   // iret
                       });
    guest.start_real({
        0xb0, 0x11, 0xe6, 0x20, // 8259: edge, cascade, ICW4
        0xb0, 0x20, 0xe6, 0x21, // vectors from 0x20
        0xb0, 0x04, 0xe6, 0x21, //
        0xb0, 0x01, 0xe6, 0x21, //
        0xb0, 0xdf, 0xe6, 0x21, // only line 5
        0xfb,                   // sti
        0xf4,                   // hlt
        0xeb, 0xfd,             // jmp to hlt
    });
    auto* interrupts = guest.backend->interrupts();
    REQUIRE(interrupts != nullptr);
    guest.port.on_write = [&] {
        if (guest.port.writes.size() < 3)
            return; // still asserted: comes again after the end of interrupt
        interrupts->set_level(5, false);
        guest.vcpus[0]->kick();
    };
    std::jthread device([&] {
        std::this_thread::sleep_for(50ms);
        interrupts->set_level(5, true);
    });
    guest.expect_kicked(guest.run());
    CHECK(guest.port.writes.size() == 3);
    CHECK(guest.run(0, 50ms).text == "timed out"); // deasserted: it sleeps again
    CHECK(guest.port.writes.size() == 3);
}

TEST_CASE("the trigger mode of every line") {
    Guest guest;
    guest.port.on_write = [&] {
        if (guest.port.writes.size() == 2)
            guest.vcpus[0]->kick();
    };
    guest.start_real({
        0xba,
        0xd0,
        0x04,
        0xec,
        0xe6,
        0xf4, // mov dx, 0x4d0; in al, dx; out 0xf4, al
        0x42,
        0xec,
        0xe6,
        0xf4, // inc dx
        0xeb,
        0xfe,
    });
    guest.expect_kicked(guest.run());
    REQUIRE(guest.port.writes.size() == 2);
    unsigned lines = 0;
    for (unsigned line : pci_lines)
        lines |= 1U << line;
    lines |= 1U << sci_line;
    CHECK((guest.port.writes[0].value | guest.port.writes[1].value << 8) == lines);
}

TEST_CASE("messages that are not for a local APIC are refused") {
    Guest guest;
    auto* interrupts = guest.backend->interrupts();
    CHECK_FALSE(interrupts->send_msi(0, 0x20));
    CHECK_FALSE(interrupts->send_msi(0x1fee00000, 0x20));
    CHECK_FALSE(interrupts->send_msi(0xfed00000, 0x20));
}

TEST_CASE("a triple fault is a shutdown") {
    Guest guest;
    guest.start_flat({0x0f, 0x0b}); // ud2
    auto state = guest.vcpus[0]->state().value();
    state.idt.limit = 0;
    REQUIRE(guest.vcpus[0]->set_state(state));
    auto exit = guest.run();
    CHECK(exit.text == "");
    CHECK(exit.reason == Exit::Reason::shutdown);
}

TEST_CASE("a spinning guest is kicked; kicks before the run are not lost") {
    Guest guest;
    guest.start_real({0xeb, 0xfe});
    for (unsigned round = 0; round < 50; ++round) {
        auto running = std::async(std::launch::async, [&] { return guest.vcpus[0]->run(); });
        if (round % 2 == 0)
            std::this_thread::sleep_for(1ms);
        guest.vcpus[0]->kick();
        REQUIRE(running.wait_for(10s) == std::future_status::ready);
        CHECK(running.get().reason == Exit::Reason::kicked);
    }
    guest.vcpus[0]->kick();
    guest.vcpus[0]->kick(); // one is enough
    CHECK(guest.run().text == "");
    CHECK(guest.run(0, 30ms).text == "timed out");
}

TEST_CASE("a kick reaches a thread that blocks every signal") {
    Guest guest;
    guest.start_real({0xeb, 0xfe});
    sigset_t all, old;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &old);
    auto exit = guest.run(0, 30ms); // the thread inherits the mask
    ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
    CHECK(exit.reason == Exit::Reason::kicked);
}

TEST_CASE("a doorbell rings without the bus") {
    Guest guest;
    Fd bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    Port registers;
    REQUIRE(guest.bus.insert(Space::memory, 0xe0000000, 0x1000, registers));
    REQUIRE(guest.backend->bind_doorbell(Space::memory, 0xe0000010, 2, bell.get()));
    CHECK_FALSE(guest.backend->bind_doorbell(Space::memory, 0xe0000010, 2, bell.get()));
    guest.start_flat({
        0x66, 0xc7, 0x05, 0x10, 0x00, 0x00, 0xe0, 0x03, 0x00, // mov word [0xe0000010], 3
        0xe6, 0xf4,                                           // out 0xf4, al
        0xeb, 0xf3,                                           // again
    });
    guest.expect_kicked(guest.run());
    std::uint64_t rings = 0;
    REQUIRE(::read(bell.get(), &rings, 8) == 8);
    CHECK(rings == 1);
    CHECK(registers.writes.empty());
    guest.backend->unbind_doorbell(Space::memory, 0xe0000010, 2, bell.get());
    guest.expect_kicked(guest.run());
    CHECK(registers.writes == std::vector<Port::Write>{{0x10, 2, 3}});
}

TEST_CASE("a bound eventfd sends its message without us, and the wires stay where they are") {
    Guest guest;
    Fd signals(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        others(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    auto first = guest.backend->bind_message(others.get(), 0xfee00000, 0x41);
    auto bound = guest.backend->bind_message(signals.get(), 0xfee00000, 0x42);
    REQUIRE(first);
    REQUIRE(bound);
    CHECK(*first != *bound);
    CHECK_FALSE(guest.backend->bind_message(others.get(), 0x1000, 0x43));
    guest.backend->unbind_message(*first, others.get());
    guest.start_flat({
        0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00, // local APIC on
        0xe6, 0xf4,                                                 // out 0xf4, al
        0xf7, 0x05, 0x20, 0x02, 0xe0, 0xfe, 0x04, 0x00, 0x00, 0x00, // vector 0x42 requested?
        0x74, 0xf4,                                                 // not yet
        0xb0, 0x0a, 0xe6, 0xa0, 0xe4, 0xa0,                         // requests of the second 8259
        0xe6, 0xf5,                                                 // out 0xf5, al
        0xeb, 0xfe,
    });
    std::uint64_t one = 1;
    guest.port.on_write = [&] {
        if (guest.port.writes.size() == 2)
            return guest.vcpus[0]->kick();
        guest.backend->interrupts()->set_level(11, true);
        CHECK(::write(others.get(), &one, sizeof(one)) == sizeof(one));
        CHECK(::write(signals.get(), &one, sizeof(one)) == sizeof(one));
    };
    guest.expect_kicked(guest.run());
    REQUIRE(guest.port.writes.size() == 2);
    CHECK(guest.port.writes[1] == Port::Write{1, 1, 0x08});
    std::uint64_t left = 0;
    CHECK(::read(signals.get(), &left, sizeof(left)) < 0); // taken
    CHECK(::read(others.get(), &left, sizeof(left)) == sizeof(left));
    guest.backend->unbind_message(*bound, signals.get());
}

TEST_CASE("the second vCPU waits for its start-up message") {
    Guest guest(2);
    CHECK(guest.run(1, 30ms).text == "timed out"); // and can be kicked while it waits
    guest.load(0x2000, {0xb0, 0x99, 0xe6, 0xf4, 0xeb, 0xfe});
    guest.start_flat({
        0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00, // local APIC on
        0xc7, 0x05, 0x10, 0x03, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x01, // ICR high: APIC 1
        0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x00, 0x00, // INIT
        0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x02, 0x46, 0x00, 0x00, // SIPI, page 2
        0xeb, 0xfe,
    });
    guest.port.on_write = [&] {
        guest.vcpus[0]->kick();
        guest.vcpus[1]->kick();
    };
    auto second = std::async(std::launch::async, [&] { return guest.run(1); });
    guest.expect_kicked(guest.run(0));
    guest.expect_kicked(second.get());
    CHECK(guest.port.writes == std::vector<Port::Write>{{0, 1, 0x99}});
}

TEST_CASE("running into nothing fails with a place") {
    Guest guest;
    guest.start_flat({0xe9, 0xfb, 0xff, 0x0f, 0x00}); // jmp 0x101000, where no memory is
    auto exit = guest.run();
    CHECK(exit.reason == Exit::Reason::failed);
    CHECK_THAT(exit.text, Catch::StartsWith("kvm: internal error 1 (instruction not emulated)") &&
                              Catch::Contains("at rip 0x101000"));
}

TEST_CASE("the guest sees the processor of the model") {
    Guest guest;
    guest.start_flat({
        0xb8,
        0x00,
        0x00,
        0x00,
        0x40, // mov eax, 0x40000000
        0x0f,
        0xa2, // cpuid
        0x89,
        0x1d,
        0x00,
        0x30,
        0x00,
        0x00, // mov [0x3000], ebx
        0xe6,
        0xf4,
        0xeb,
        0xfe,
    });
    guest.expect_kicked(guest.run());
    CHECK(guest.memory.read_le<std::uint32_t>(0x3000) == load_le<std::uint32_t>(as_bytes("Open")));
}

TEST_CASE("the state that was set is the state that is there") {
    Guest guest;
    for (auto state : {CpuState::reset(), CpuState::flat_protected()}) {
        state.rsi = 0x12345678;
        state.gdt = {0x500, 0x17};
        REQUIRE(guest.vcpus[0]->set_state(state));
        auto got = guest.vcpus[0]->state().value();
        CHECK(got.rsi == state.rsi);
        CHECK(got.rip == state.rip);
        CHECK(got.cr0 == state.cr0);
        CHECK(got.cs.base == state.cs.base);
        CHECK(got.cs.limit == state.cs.limit);
        CHECK(got.cs.access == state.cs.access);
        CHECK(got.ss.access == state.ss.access);
        CHECK(got.tr.access == state.tr.access);
        CHECK(got.gdt.base == 0x500);
        CHECK(got.gdt.limit == 0x17);
    }
}

TEST_CASE("memory may be taken away and read-only memory writes to the bus") {
    Guest guest;
    REQUIRE(guest.memory.add(0x100000, 4 * KiB, false));
    const auto range = guest.memory.ranges()[1];
    REQUIRE(guest.backend->map(range, true));
    CHECK_FALSE(guest.backend->map(range, true));
    Port below;
    below.on_write = [&] { guest.vcpus[0]->kick(); };
    REQUIRE(guest.bus.insert(Space::memory, 0x100000, 4 * KiB, below));
    REQUIRE(guest.memory.write_le<std::uint32_t>(0x100000, 0xfeedf00d));
    guest.start_flat({
        0xa1, 0x00, 0x00, 0x10, 0x00, // mov eax, [0x100000]
        0xa3, 0x04, 0x00, 0x10, 0x00, // mov [0x100004], eax
        0xeb, 0xf4,                   // again
    });
    guest.expect_kicked(guest.run());
    CHECK(below.writes == std::vector<Port::Write>{{4, 4, 0xfeedf00d}});
    CHECK(below.reads == 0);
    guest.backend->unmap(0x100000);
    guest.expect_kicked(guest.run());
    CHECK(below.reads == 1);
}

TEST_CASE("unknown MSRs read as zero and take any write") {
    Fd kvm = open_kvm();
    if (::ioctl(kvm.get(), KVM_CHECK_EXTENSION, KVM_CAP_X86_USER_SPACE_MSR) <= 0) {
        WARN("not on this kernel");
        return;
    }
    Guest guest;
    guest.start_flat({
        0xb9, 0x45, 0x23, 0x01, 0xc0, // mov ecx, 0xc0012345
        0xb8, 0x78, 0x56, 0x34, 0x12, // mov eax, 0x12345678
        0x31, 0xd2,                   // xor edx, edx
        0x0f, 0x30,                   // wrmsr
        0x0f, 0x32,                   // rdmsr
        0xe7, 0xf4,                   // out 0xf4, eax
        0xeb, 0xfe,
    });
    guest.expect_kicked(guest.run());
    CHECK(guest.port.writes == std::vector<Port::Write>{{0, 4, 0}});
}

TEST_CASE("not a KVM descriptor") {
    Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    auto made = create_kvm_backend(std::move(null));
    REQUIRE_FALSE(made);
    CHECK_THAT(made.error().text(), Catch::StartsWith("/dev/kvm: KVM_GET_API_VERSION"));
}

TEST_CASE("a virtual machine is created quickly", "[.][time]") {
    auto start = std::chrono::steady_clock::now();
    Guest guest;
    auto created = std::chrono::steady_clock::now();
    guest.start_real({0xe6, 0xf4, 0xeb, 0xfe});
    guest.expect_kicked(guest.run());
    auto ran = std::chrono::steady_clock::now();
    fmt::print("create {} us, first exit {} us\n", (created - start) / 1us, (ran - created) / 1us);
}

TEST_CASE("a saved vcpu goes on elsewhere, and is saved as the same bytes again") {
    auto bytes_of = [](auto& part) {
        StateArchive archive;
        part.state(archive);
        REQUIRE(archive.finish().has_value());
        return archive.take();
    };
    const std::initializer_list<int> counts = {
        0xb3, 0x00,                         // mov bl, 0
        0xfe, 0xc3, 0x88, 0xd8, 0xe6, 0xf4, // inc bl; mov al, bl; out 0xf4, al
        0xeb, 0xf8,                         // jmp to inc
    };
    Guest before(2);
    before.port.on_write = [&] {
        if (before.port.writes.size() == 50)
            before.vcpus[0]->kick();
    };
    before.start_real(counts);
    before.expect_kicked(before.run());
    before.backend->interrupts()->set_level(5, true);
    auto first = before.vcpus[0]->save(), second = before.vcpus[1]->save();
    auto backend = before.backend->save();
    REQUIRE(first.has_value());
    REQUIRE(second.has_value());
    REQUIRE(backend.has_value());
    CHECK(first->activity == Activity::runs);
    CHECK(second->activity == Activity::uninitialized);

    Guest after(2);
    after.load(code_at, counts);
    after.backend->interrupts()->set_level(5, true); // devices first
    REQUIRE(after.vcpus[0]->load(*first).has_value());
    REQUIRE(after.vcpus[1]->load(*second).has_value());
    REQUIRE(after.backend->load(*backend).has_value());
    auto again = after.vcpus[0]->save();
    REQUIRE(again.has_value());
    CHECK(again->tsc >= first->tsc);
    again->tsc = first->tsc;
    CHECK(bytes_of(*again) == bytes_of(*first));
    auto backend_again = after.backend->save();
    REQUIRE(backend_again.has_value());
    CHECK(backend_again->pvclock_ns >= backend->pvclock_ns);
    backend_again->pvclock_ns = backend->pvclock_ns;
    CHECK(bytes_of(*backend_again) == bytes_of(*backend));
    after.expect_kicked(after.run());
    REQUIRE(after.port.writes.size() == 1);
    CHECK(after.port.writes[0].value == 51);

    auto hostile = *first;
    hostile.msrs.push_back({0xc0010015, 1}); // not of a machine's state
    CHECK_FALSE(Guest(1).vcpus[0]->load(hostile).has_value());
    hostile = *first;
    hostile.xsave.resize(100'000);
    CHECK_FALSE(Guest(1).vcpus[0]->load(hostile).has_value());
}
