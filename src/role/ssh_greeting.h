// Connections that the parent has begun to the ssh port of guests that were installed: whether
// somebody there says "SSH-". No more is read of a guest than that.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "loop/loop.h"

namespace vmhost::role {

class SshGreetings {
public:
    // seen is called with the number of a connection, at most once for each.
    SshGreetings(Loop& loop, std::function<void(std::uint64_t number)> seen);
    ~SshGreetings();
    // Of one number, the last. A bounded number of them at a time.
    void wait_for(std::uint64_t number, Fd socket);

private:
    struct Waiting;
    void read(std::uint64_t number);

    Loop& loop_;
    std::function<void(std::uint64_t)> seen_;
    std::map<std::uint64_t, std::unique_ptr<Waiting>> waiting_;
};

} // namespace vmhost::role
