#!/bin/sh
# A Debian package of the application, with all that it needs but Python itself:
#
#   make deb VERSION=1.2          # dist/{{cookiecutter.name}}_1.2_ARCHITECTURE.deb
#   make deb EXTRAS="init monit"  # also for machines without systemd: an init script, one for monit
#
# What it installs: /usr/lib/{{cookiecutter.name}} (code), /etc/{{cookiecutter.name}} (configuration, kept
# in upgrades), a service and its sockets, logs below /var/log/{{cookiecutter.name}} that are rotated,
# and /usr/bin/{{cookiecutter.name}}, which is apihour for it: {{cookiecutter.name}} ctl workers.
# The service has a user of its own. An upgrade of the package loses no request.
set -eu
umask 022

name={{cookiecutter.name}}
version=${1:?usage: make_deb.sh VERSION, with .venv and wheels made: see make deb}
python=${VENV:-.venv}/bin/python
package=$(echo "$name" | tr _ -)
minor=$($python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
architecture=$(dpkg --print-architecture)
root=build/deb
lib=$root/usr/lib/$name
units=$root/usr/lib/systemd/system

case "${EXTRAS:-}" in
    "" | init | "init monit" | "monit init") ;;
    *)
        echo "make_deb.sh: EXTRAS: '$EXTRAS'; expected init, or init monit" >&2
        exit 1 ;;
esac

rm -rf $root
mkdir -p "$lib" $root/DEBIAN $root/usr/bin $root/etc/logrotate.d $units dist

# The code. Byte code is made here, as the service may not write there.
$python -m pip --disable-pip-version-check install --quiet --no-index --no-deps \
    --no-compile --target "$lib" wheels/*.whl
rm -rf "$lib/bin"
cp -R $name "$lib/"
find "$lib" -name __pycache__ -prune -exec rm -rf {} +
$python -m compileall -q -s $root -p / "$lib"

cat > $root/usr/bin/$name <<END
#!/bin/sh
root=\${DPKG_ROOT:-}
PYTHONPATH=\$root/usr/lib/$name exec python$minor -m apihour "\$@"
END
chmod 755 $root/usr/bin/$name

# Its configuration.
cp -R etc/$name $root/etc/$name
cp packaging/logrotate $root/etc/logrotate.d/$name
case " ${EXTRAS:-} " in *" init "*)
    install -D -m 755 packaging/init $root/etc/init.d/$name
    install -D -m 644 packaging/default $root/etc/default/$name ;;
esac
case " ${EXTRAS:-} " in *" monit "*)
    install -D -m 644 packaging/monit $root/etc/monit/conf.d/$name ;;
esac
(cd $root && find etc -type f -printf '/%p\n') > $root/DEBIAN/conffiles

# The units of deploy/, with these places and a user of its own.
cp deploy/*.socket $units/
sed -e "s#/srv/$name/.venv/bin/apihour#/usr/bin/$name#" \
    -e "s#^WorkingDirectory=.*#WorkingDirectory=/usr/lib/$name#" \
    -e "s#^DynamicUser=yes#User=$name#" \
    -e "s#^StateDirectory=#LogsDirectory=$name\\nLogsDirectoryMode=0750\\nEnvironment=\"GUNICORN_CMD_ARGS=--error-logfile %L/$name/$name.log\"\\n&#" \
    -e '1,/^\[Unit\]/{/^#/d}' deploy/$name.service > $units/$name.service
for line in "ExecStart=/usr/bin/$name " "User=$name" "LogsDirectory=$name"; do
    grep -q "^$line" $units/$name.service || {
        echo "make_deb.sh: deploy/$name.service: no line became '$line'" >&2
        exit 1
    }
done

cp packaging/postinst packaging/prerm packaging/postrm $root/DEBIAN/
chmod 755 $root/DEBIAN/postinst $root/DEBIAN/prerm $root/DEBIAN/postrm
cat > $root/DEBIAN/control <<END
Package: $package
Version: $version
Architecture: $architecture
Maintainer: ${DEBFULLNAME:-$(id -un)} <${DEBEMAIL:-root@localhost}>
Depends: python$minor, adduser
Recommends: logrotate
Section: net
Priority: optional
Installed-Size: $(du -sk $root | cut -f1)
Description: $name, served by apihour
 The application and the Python packages that it needs.
END
(cd $root && find usr -type f -print0 | xargs -0 md5sum) > $root/DEBIAN/md5sums
made=${package}_${version}_$architecture.deb
dpkg-deb --root-owner-group --build $root "dist/$made"
mkdir -p packaging/ansible/roles/$name/files
ln -sf "../../../../../dist/$made" packaging/ansible/roles/$name/files/$name.deb
