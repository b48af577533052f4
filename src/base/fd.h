// A file descriptor that closes itself.
#pragma once

#include <unistd.h>
#include <utility>

#include "base/error.h"

namespace vmhost {

class Fd {
public:
    Fd() = default;
    explicit Fd(int number) : number_(number) {}
    Fd(Fd&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        if (this != &other) {
            reset();
            number_ = std::exchange(other.number_, -1);
        }
        return *this;
    }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { reset(); }

    int get() const { return number_; }
    explicit operator bool() const { return number_ >= 0; }
    int release() { return std::exchange(number_, -1); }
    void reset() {
        if (number_ >= 0)
            ::close(number_);
        number_ = -1;
    }
    // A second descriptor for the same open file, close-on-exec.
    Result<Fd> duplicate() const;

private:
    int number_ = -1;
};

// Two connected Unix sockets of the given type (SOCK_STREAM, SOCK_SEQPACKET), close-on-exec.
Result<std::pair<Fd, Fd>> socket_pair(int type);

Result<void> set_nonblocking(const Fd& fd);

} // namespace vmhost
