// How far the installations of this host's VMs are: what the parent hears of each from the services
// and from the guest's own console, put together by install/progress.h, told as events, and kept in
// host.db so that the next daemon knows.
//
// Loop thread of the parent. Of a console only fixed texts are looked for.
#pragma once

#include <functional>
#include <map>
#include <optional>

#include "host/guest.h"
#include "install/install.h"

namespace vmhost::host {

class InstallWatch {
public:
    struct Doors {
        std::function<const std::vector<std::unique_ptr<Guest>>&()> guests;
        // The guest may have an sshd by now: saw_ssh() answers, or nobody.
        std::function<void(Guest&)> ask_for_ssh;
        // Its installer is done, or has failed.
        std::function<void(Guest&)> is_over;
        std::function<std::int64_t()> now_s; // since 1970
    };
    InstallWatch(Loop& loop, Memory& memory, Doors doors);

    // Of the VM's last installation; null when it has none.
    const install::Progress* find(const Guest& guest) const;
    // Its installer has its answers and is not done: the process that they were given to runs.
    bool runs(const Guest& guest) const;
    // Its installer had its answers, and is done or has failed.
    bool is_over(const Guest& guest) const;
    // It is armed anew.
    void began(Guest& guest);
    void reached(Guest& guest, install::Phase phase, std::string_view how = {});
    // Its answer file was given out; of the sets that it will fetch from here, so many bytes.
    void answered(Guest& guest, std::string_view how, std::uint64_t wanted_bytes);
    void fetched(Guest& guest, std::string_view name, std::uint64_t bytes);
    // It is armed, and starts.
    void started(Guest& guest);
    // A guest that installs itself may run: it is looked at from here on.
    void wake();

private:
    struct Watched {
        std::uint32_t number = 0; // of the installation
        install::Progress progress;
        install::ConsoleReader console;
        std::uint64_t console_position = 0;
        std::optional<pid_t> console_of;
        std::int64_t asked_ssh_s = 0;
        std::int64_t kept_s = 0;
        std::optional<pid_t> not_of; // it ran when the VM was armed, and is not what was meant
    };
    Watched* watched(const Guest& guest) const;
    void look();
    bool look_at(Guest& guest);
    void read_console(Guest& guest, Watched& one);
    void type(Guest& guest, std::string_view keys);
    void keep(Guest& guest, const Watched& one);
    void alarm(Guest& guest, const Watched& one);
    void tell(Guest& guest, const Watched& one, std::string_view how);

    Memory& memory_;
    Doors doors_;
    mutable std::map<std::uint32_t, Watched> watched_; // by id of the VM, as they are asked for
    Timer look_;
    std::vector<Fd> typing_; // to consoles, until what was sent last has been taken
    Timer typed_;
};

} // namespace vmhost::host
