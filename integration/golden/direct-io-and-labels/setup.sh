# label FILE: label FILE with its hash; wrong FILE: with that of something else
label() { setfattr -n security.ima -v 0x0404$(sha256sum < "$1" | cut -d" " -f1) "$1"; }
wrong() { setfattr -n security.ima -v 0x0404$(echo other | sha256sum | cut -d" " -f1) "$1"; }
for f in known unknown bad permitted badpermitted label; do echo $f > $f; done
label known; label unknown; wrong bad; label permitted; wrong badpermitted; label label
chown 1001 *permitted; chmod 666 *
