// What interfaces had before, as assign.cc and local.cc ask for it (recall.cc).
#pragma once

#include <unordered_map>
#include <vector>

#include "config/reader.h"

namespace vmhost::config {

class Recall {
public:
    using Entry = Remembered::Interface;
    // Both must outlive it; the VMs of the model must not move.
    Recall(const Model& model, const Remembered& remembered);

    // Of an interface of the model; null: nothing, or what the file had said.
    const Entry* of(const Vm& vm, std::size_t index) const;
    // Of VMs and interfaces that are not in the model: nobody else's for now.
    const std::vector<const Entry*>& of_absent() const { return absent_; }

private:
    std::unordered_map<std::string, const Entry*> present_; // "vm:index"
    std::vector<const Entry*> absent_;
};

// Says, where the file gives one of its interfaces that address, that it is another's.
void complain_about_claim(const Model& model, std::string_view vm, std::size_t index,
                          std::string_view address, Findings& findings);

} // namespace vmhost::config
