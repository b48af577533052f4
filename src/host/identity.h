// What a guest is told that its machine is: SMBIOS's serial number and UUID.
//
// The serial number of a VM whose system asks by cloud-init says where its seed is, in the words
// that cloud-init looks for there (DataSourceNoCloud.py and ds-identify of 22.4): a template needs
// nothing of this host in it. It says so whether or not the VM is armed, as cloud-init compares the
// instance with the one that it has seen; what it says of the instance wins over meta-data.
//
// "ds=nocloud" and an http address, not "ds=nocloud-net", which newer ones call by that name, too,
// and complain of: the seed is read when the network is up either way.
#pragma once

#include "config/config.h"
#include "ipc/messages.h"
#include "store/store.h"

namespace vmhost::host {

// installation: its last one; null = none.
std::string serial_of(const config::Model& model, const config::Vm& vm,
                      const store::Installation* installation);

// The UUID is config's, see there.
void identify(ipc::VmSetup& setup, const config::Model& model, const config::Vm& vm,
              const store::Installation* installation);

} // namespace vmhost::host
