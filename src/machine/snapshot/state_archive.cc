#include "machine/snapshot/state_archive.h"

#include <algorithm>

namespace vmhost::machine {

void StateArchive::refuse(std::string why, ErrorKind kind) {
    if (ok())
        wrong_ = Error(kind, std::move(why));
}

std::uint16_t StateArchive::version(std::uint16_t newest) {
    version_known_ = true;
    if (!loading())
        version_ = newest;
    else if (version_ == 0 || version_ > newest)
        refuse(fmt::format("its version {} is not known here, only up to {}", version_, newest),
               ErrorKind::unsupported);
    return version_;
}

// What is left bounds the count too: every element has at least a byte.
std::size_t StateArchive::count(std::size_t here, std::size_t most, std::string_view what) {
    auto number = static_cast<std::uint32_t>(here);
    integer(number);
    if (!loading()) {
        if (here > most)
            refuse(fmt::format("{}: {} are more than the {} that can be kept", what, here, most));
        return here;
    }
    if (number <= most && number <= reader_->remaining())
        return number;
    refuse(fmt::format("{}: a count of {} is impossible", what, number));
    return 0;
}

void StateArchive::bytes(MutableBytes bytes) {
    if (!loading())
        return writer_.bytes(bytes);
    auto from = wrong_ ? Bytes() : reader_->bytes(bytes.size());
    if (from.size() == bytes.size())
        std::ranges::copy(from, bytes.begin());
    else
        std::ranges::fill(bytes, std::uint8_t{0});
}

void StateArchive::bytes(std::vector<std::uint8_t>& bytes, std::size_t most,
                         std::string_view what) {
    auto size = count(bytes.size(), most, what);
    if (loading())
        bytes.assign(size, 0);
    this->bytes(MutableBytes(bytes));
}

void StateArchive::text(std::string& text, std::size_t most_bytes, std::string_view what) {
    std::vector<std::uint8_t> raw(text.begin(), text.end());
    bytes(raw, most_bytes, what);
    if (loading())
        text.assign(raw.begin(), raw.end());
}

Result<void> StateArchive::finish() {
    if (!version_known_)
        version(1);
    if (!wrong_ && reader_ && !reader_->ok())
        return fail(ErrorKind::corrupt, "it is cut short");
    if (!wrong_ && reader_ && reader_->remaining() > 0)
        return fail(ErrorKind::corrupt, "{} bytes are left over", reader_->remaining());
    if (wrong_)
        return std::unexpected(*wrong_);
    return {};
}

} // namespace vmhost::machine
