// A message from a hostile peer: whatever decodes must encode to the same bytes.

#include <cstdlib>
#include <fcntl.h>

#include "ipc/codec.h"

using namespace vmhost;

namespace sample {

enum class Colour : std::uint8_t { red, green, blue };
constexpr Colour enum_last(Colour) {
    return Colour::blue;
}

struct Part {
    std::string name;
    std::optional<Ipv4Prefix> prefix;
    template <class A>
    void fields(A& a) {
        a(name, prefix);
    }
};

struct Message {
    static constexpr std::uint16_t type = 1;
    std::uint32_t number = 0;
    bool truth = false;
    Colour colour = Colour::red;
    std::vector<Part> parts;
    std::vector<std::pair<std::string, std::vector<std::uint16_t>>> nested;
    Mac mac;
    std::chrono::milliseconds delay{0};
    std::vector<Fd> fds;
    std::optional<Error> error;
    template <class A>
    void fields(A& a) {
        a(number, truth, colour, parts, nested, mac, delay, fds, error);
    }
};

} // namespace sample

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1)
        return 0;
    ipc::Frame frame{sample::Message::type, {data + 1, data + size}, {}};
    for (int i = 0; i < data[0] % 4; ++i)
        frame.fds.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    auto payload = frame.payload;
    auto message = ipc::decode<sample::Message>(std::move(frame));
    if (message && ipc::encode(std::move(*message)).payload != payload)
        std::abort();
    return 0;
}
