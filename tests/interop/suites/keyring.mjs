// The session in a real keyring: GNOME's, over D-Bus, as on a desktop; asked with secret-tool what is in it.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { Background, done, eventually, run as command } from '../driver/processes.mjs';
import { Broker, Person } from '../driver/ichor.mjs';
import { Provider } from '../driver/peers.mjs';

export const needs = ['oidc', 'keyring'];

export async function run(dir) {
  const broker = await Broker.plan(dir);
  const provider = await Provider.start(dir, [broker.client()]);
  await broker.init(provider, '');
  await broker.start({ log: path.join(dir, 'broker.log') });
  const alice = new Person(path.join(dir, 'alice'), { broker, provider });
  const bus = await desktop(dir, alice);
  alice.env = { ...bus, ICHOR_KEYRING: 'auto' };
  const sessions = path.join(alice.home, '.local', 'state', 'ichor', 'sessions');
  const files = () => (fs.existsSync(sessions) ? fs.readdirSync(sessions) : []);

  await check('a login is kept in the keyring, and in no file', async () => {
    const { text } = await alice.loggedIn({ login: 'alice' });
    lacks(text, 'no keyring is used');
    const { attributes, secret } = await kept(bus);
    has(attributes, `attribute.username = ${broker.url}`);
    same(JSON.parse(secret).broker, broker.url, "the session's broker");
    same(files(), [], 'files');
  });

  await check('the next command finds it there', async () => {
    has((await alice.does(['status'])).text, 'alice@example.test');
  });

  await check('with the keyring turned off it is not seen', async () => {
    has(await alice.fails(['--keyring', 'off', 'status']), 'ichor login');
  });

  await check('a logout takes the session out of the keyring', async () => {
    await alice.does(['logout']);
    same(await kept(bus), undefined, 'what is kept');
    has(await alice.fails(['status']), 'ichor login');
  });

  await check('while the keyring is locked nobody waits for a window: the next login goes into a file, and says so', async () => {
    await lock(bus);
    const { text } = await alice.loggedIn({ login: 'alice' });
    has(text, 'no keyring is used');
    same(files().length, 1, 'files');
    has((await alice.does(['status'])).text, 'alice@example.test');
    await alice.does(['logout']);
    same(files(), [], 'files after the logout');
  });
}

/** A session bus with an unlocked keyring on it: the environment of a program on that desktop. */
async function desktop(dir, person) {
  const env = { ...person.env, XDG_RUNTIME_DIR: path.join(dir, 'run') };
  fs.mkdirSync(env.XDG_RUNTIME_DIR, { mode: 0o700 });
  const daemon = new Background('dbus-daemon', 'dbus-daemon', ['--session', '--nofork', '--print-address'], { env, log: path.join(dir, 'dbus.log') });
  env.DBUS_SESSION_BUS_ADDRESS = (await daemon.says(/^unix:\S+/m))[0];
  const keyring = new Background('gnome-keyring-daemon', 'gnome-keyring-daemon', ['--foreground', '--unlock', '--components=secrets'], {
    env, log: path.join(dir, 'keyring.log'),
  });
  keyring.child.stdin.end('a password\n');
  // asked of the bus: a question to the name itself would make the bus start a second keyring, ahead of this one
  const owned = ['--session', '--print-reply', '--dest=org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus.NameHasOwner', 'string:org.freedesktop.secrets'];
  await eventually(async () => has((await done('dbus-send', owned, { env })).stdout, 'boolean true'));
  const locked = [...call, LOGIN, 'org.freedesktop.DBus.Properties.Get', 'string:org.freedesktop.Secret.Collection', 'string:Locked'];
  await eventually(async () => has((await done('dbus-send', locked, { env })).stdout, 'boolean false'));
  return env;
}

const call = ['--session', '--print-reply', '--dest=org.freedesktop.secrets'];
const LOGIN = '/org/freedesktop/secrets/collection/login';

async function lock(env) {
  await done('dbus-send', [...call, '/org/freedesktop/secrets', 'org.freedesktop.Secret.Service.Lock', `array:objpath:${LOGIN}`], { env });
}

/** The item of ours in the keyring, as secret-tool shows it; undefined when there is none. */
async function kept(env) {
  const { stdout, stderr } = await command('secret-tool', ['search', '--all', 'service', 'ichor'], { env });
  const secret = stdout.match(/^secret = (.*)$/m)?.[1];
  return secret === undefined ? undefined : { secret, attributes: stdout + stderr };
}
