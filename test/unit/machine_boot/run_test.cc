// Loaded images under KVM: machine code that reports through a port what it finds where the
// loaders promise it. Skipped, with a word, where there is no /dev/kvm.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <future>
#include <thread>
#include <unistd.h>

#include "images.h"
#include "machine/boot/firmware.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::machine::boot;
using namespace vmhost::machine::boot::test;

namespace {

bool have_kvm() {
    bool have = ::access("/dev/kvm", R_OK | W_OK) == 0;
    if (!have)
        WARN("skipped: no usable /dev/kvm");
    return have;
}

// Collects what is written and stops the guest when enough is there.
class Reporter : public Device {
public:
    std::string_view name() const override { return "reporter"; }
    void read(std::uint64_t, MutableBytes data) override {
        for (auto& byte : data)
            byte = 0xe9; // SeaBIOS looks for this at its debug port
    }
    void write(std::uint64_t, Bytes data) override {
        std::uint32_t value = 0;
        std::memcpy(&value, data.data(), std::min<std::size_t>(data.size(), 4));
        words.push_back(value);
        if (done(*this))
            vcpu->kick();
    }
    std::string as_string() const {
        std::string out;
        for (auto word : words)
            out += static_cast<char>(word);
        return out;
    }
    std::vector<std::uint32_t> words;
    std::function<bool(const Reporter&)> done;
    Vcpu* vcpu = nullptr;
};

void run(GuestMemory& memory, const CpuState& state, std::uint64_t port, Reporter& reporter) {
    Bus bus;
    REQUIRE(bus.insert(Space::port, port, 4, reporter));
    auto backend = create_kvm_backend(Fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC)));
    REQUIRE(error_of(backend) == "no error");
    for (const auto& range : memory.ranges())
        REQUIRE(error_of((*backend)->map(range, false)) == "no error");
    auto vcpu = (*backend)->create_vcpu(0, make_cpu_model((*backend)->capabilities(), 0, 1), bus);
    REQUIRE(error_of(vcpu) == "no error");
    reporter.vcpu = vcpu->get();
    REQUIRE(error_of((*vcpu)->set_state(state)) == "no error");
    // A guest gone astray ends the test, not the patience.
    std::promise<void> ended;
    std::thread watchdog([&, over = ended.get_future()] {
        if (over.wait_for(std::chrono::seconds(20)) == std::future_status::timeout)
            (*vcpu)->kick();
    });
    auto exit = (*vcpu)->run();
    ended.set_value();
    watchdog.join();
    INFO(exit.text);
    CHECK(exit.reason == Exit::Reason::kicked);
}

std::vector<std::uint32_t> report(Bytes image, std::size_t count, Request wanted = {}) {
    auto memory = guest(32 * MiB);
    wanted.image = image;
    wanted.name = "stub";
    auto loaded = load(*memory, wanted);
    REQUIRE(error_of(loaded) == "no error");
    Reporter reporter;
    reporter.done = [count](const Reporter& self) { return self.words.size() == count; };
    run(*memory, loaded->cpu, 0xf4, reporter);
    return reporter.words;
}

} // namespace

TEST_CASE("a PVH guest runs and finds its start information") {
    if (!have_kvm())
        return;
    Buffer code = {0xba, 0xf4, 0,    0, 0, // mov $0xf4, %edx
                   0x8b, 0x03,             // mov (%ebx), %eax
                   0xef,                   // out %eax, (%dx)
                   0x8b, 0x43, 0x18,       // mov 24(%ebx), %eax: the command line
                   0x8b, 0x00,             // mov (%eax), %eax
                   0xef, 0xf4};
    auto image = ElfBuilder(true)
                     .segment(pt_load, MiB, code)
                     .segment(pt_note, 0, note(std::string_view("Xen\0", 4), 18, le_bytes(MiB, 8)))
                     .build();
    Request wanted;
    wanted.command_line = "abcd";
    CHECK(report(image, 2, wanted) == std::vector<std::uint32_t>{0x336ec578, 0x64636261});
}

TEST_CASE("an OpenBSD guest runs and finds its arguments on the stack") {
    if (!have_kvm())
        return;
    Buffer code = {0xba, 0xf4, 0,    0,    0, // mov $0xf4, %edx
                   0x8b, 0x44, 0x24, 0x0c,    // mov 12(%esp), %eax: API version
                   0xef,                      // out %eax, (%dx)
                   0x8b, 0x44, 0x24, 0x20,    // mov 32(%esp), %eax: boot arguments
                   0x8b, 0x40, 0x0c,          // mov 12(%eax), %eax: the map's first row
                   0xef,                      //
                   0xb8, 0x10, 0,    0,    0, // mov $0x10, %eax
                   0x8e, 0xd8,                // mov %eax, %ds: the GDT is usable
                   0x8b, 0x04, 0x24,          // mov (%esp), %eax
                   0xef, 0xf4};
    auto image = ElfBuilder(false).entry(0xd0200000).segment(pt_load, 0x200000, code).build();
    CHECK(report(image, 3) == std::vector<std::uint32_t>{14, 0, 0});
}

TEST_CASE("a Linux guest runs and finds its zero page") {
    if (!have_kvm())
        return;
    Buffer code = {0xea, 0x07, 0,    0x10, 0, 0x10, 0, // ljmp $0x10, $0x100007
                   0xb8, 0x18, 0,    0,    0,          // mov $0x18, %eax
                   0x8e, 0xd8,                         // mov %eax, %ds
                   0xba, 0xf4, 0,    0,    0,          // mov $0xf4, %edx
                   0x8b, 0x86, 0x02, 0x02, 0, 0,       // mov 0x202(%esi), %eax
                   0xef,                               // out %eax, (%dx)
                   0x8b, 0x86, 0x28, 0x02, 0, 0,       // mov 0x228(%esi), %eax
                   0x8b, 0x00,                         // mov (%eax), %eax
                   0xef, 0xf4};
    auto image = LinuxBuilder().payload(code).build();
    Request wanted;
    wanted.command_line = "abcd";
    CHECK(report(image, 2, wanted) == std::vector<std::uint32_t>{0x53726448, 0x64636261});
}

TEST_CASE("firmware runs from the reset vector into its low copy") {
    if (!have_kvm())
        return;
    Buffer image(64 * KiB);
    const Buffer vector = {0xea, 0x00, 0x80, 0x00, 0xf0}; // ljmp $0xf000, $0x8000
    const Buffer code = {0xba, 0xf4, 0x00,                // mov $0xf4, %dx
                         0xb0, 0x42,                      // mov $0x42, %al
                         0xee, 0xf4};
    std::copy(vector.begin(), vector.end(), image.end() - 16);
    std::copy(code.begin(), code.end(), image.begin() + 0x8000);
    CHECK(report(image, 1) == std::vector<std::uint32_t>{0x42});
}

TEST_CASE("the embedded SeaBIOS runs to its banner and relocates itself") {
    if (!have_kvm())
        return;
    auto memory = guest(32 * MiB);
    auto loaded = load(*memory, request(seabios()));
    REQUIRE(error_of(loaded) == "no error");
    Reporter reporter;
    reporter.done = [](const Reporter& self) {
        auto so_far = self.as_string();
        return so_far.find("Relocating init") != std::string::npos || self.words.size() > 4000;
    };
    run(*memory, loaded->cpu, 0x402, reporter);
    CHECK_THAT(reporter.as_string(), Catch::Matchers::Contains("SeaBIOS (version"));
    CHECK_THAT(reporter.as_string(), Catch::Matchers::Contains("Relocating init"));
}
