// The door of deploy/: from orders to changes of the file, images and accounts.
//
// Everything is planned first, against what is there, and nothing is changed while anything is
// wrong with any order. Then the steps are taken in an order in which each can be the last: the
// ledger (who has which number), accounts and their keys, images, and the file, which makes VMs of
// them. A run after one that was cut off plans what is still missing. Telling the daemon is the
// caller's.
//
// One thread; whoever carries something out holds the lock of the state directory.
#pragma once

#include <functional>
#include <map>

#include "deploy/allocate.h"
#include "deploy/ledger.h"
#include "deploy/order.h"
#include "deploy/publish.h"
#include "deploy/sshfp.h"
#include "deploy/world.h"

namespace vmhost::deploy {

// What stands now.
struct Standing {
    config::Model model; // of the text
    std::string text;    // of the file
    Ledger ledger;
    std::set<unsigned> remembered; // numbers that the daemon's store knows
};
// Of the file, which is parsed, and of its state directory.
std::expected<Standing, config::Complaints> look(World& world, const std::string& file);

struct Wishes {
    bool update = false; // VMs that are there are changed to what their orders say
    std::chrono::sys_days today{};
    std::function<std::string()> password;
    // Directories that were given as a whole: a VM whose order is gone from there is disabled.
    std::vector<std::string> directories;
};

struct Step {
    enum class Kind : std::uint8_t {
        group,   // name
        account, // name, group, person
        member,  // name, group
        key,     // name, key
        image,   // path, format, bytes, base
        added,   // of the file, as the next ones
        changed,
        disabled,
        removed,
        no_account, // name
    };
    Kind kind = Kind::added;
    std::string vm;
    std::string name, group, person;
    std::optional<SshKey> key;
    std::string path;
    config::ImageFormat format = config::ImageFormat::qcow2;
    std::uint64_t bytes = 0;
    std::string base; // whole path; empty: none
    std::string text; // for people, after the VM's name
    Place place;      // why
};

struct Job {
    std::vector<Step> steps;
    std::string file, before, after; // the file's text
    std::string ledger_path;
    std::string ledger_before;
    Ledger ledger;
    std::vector<Error> warnings;
    std::vector<std::string> vms; // that it is about, whether or not they change
    bool nothing_to_do() const { return steps.empty() && ledger.text() == ledger_before; }
};
std::expected<Job, config::Complaints> plan(World& world, const Standing& standing,
                                            std::vector<Order> orders, const Wishes& wishes);
// Of VMs that are to go.
std::expected<Job, config::Complaints> plan_removal(World& world, const Standing& standing,
                                                    const std::vector<std::string>& vms,
                                                    bool accounts, std::chrono::sys_days today);

// The steps, each told of when it is done. The first that fails ends it; what was done stays.
using Told = std::function<void(const Step&)>;
Result<void> carry_out(World& world, const Job& job, const Told& told);

// Puts away the images of VMs that are gone and no longer run, and removes those whose time is
// over. A line for each.
Result<std::vector<std::string>> tidy(World& world, const std::string& file,
                                      std::chrono::sys_days today);

// 20 characters of the codes 33 to 126, all equally likely.
inline constexpr std::size_t password_chars = 20;
std::string new_password();
// The same, of bytes from somewhere else.
std::string password_of(const std::function<std::uint8_t()>& next_byte);

std::string ledger_path(const config::Model& model);
std::string lock_path(const config::Model& model);
std::string date_text(std::chrono::sys_days day); // "2026-11-22"

} // namespace vmhost::deploy
