// All that the page says, in one place.

const ms = value => `${Math.round(value)} ms`
/** A reason as a sentence of its own. */
const sentence = text => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? '' : '.') : '')
const named = model => (model ? `The model ${model}` : 'The model')

export const WORDS = {
  // the skeleton of the page
  tokenNeeded: 'This server wants its token. Open the whole address that the command printed (it ends in #token=…), or paste the token here.',
  token: 'Token', tokenUse: 'Use it',
  listen: 'What should it listen to?',
  chooseFile: 'Try it with a song file', chooseFileWhy: 'A recording of yours, played as if live. Choose it, or drop it on this page.',
  chooseBuiltIn: 'Use the built-in song', chooseBuiltInWhy: 'No file at hand? 40 seconds of piano and drums that lack a bass.',
  chooseMicrophone: 'Play it myself', chooseMicrophoneWhy: 'It listens to your microphone or audio interface.',
  songProgress: 'Position in the song', songVolume: 'Song volume',
  microphone: 'Microphone', level: 'Level',
  advice: 'Wear wired headphones, so that the microphone does not hear the accompaniment. Bluetooth is too slow.',
  soundMore: 'Output and processing',
  output: 'Headphones or speaker', outputNone: 'Sound goes to your system’s output: this browser cannot choose another.',
  boxes: 'Processing by the browser', echoCancellation: 'Echo cancellation', noiseSuppression: 'Noise suppression',
  autoGainControl: 'Automatic gain', boxesWhy: 'Made for speech: each of them spoils music. Leave them off and wear headphones.',
  measure: 'How long does sound take here?',
  measureWhy: 'Sound takes time from the page to your ears and back through the microphone. Measured, the accompaniment is heard just where it belongs. Turn the volume to where you will play, and hold one headphone to the microphone.',
  measureDo: 'Measure', first: 'Time of sound', firstWhy: 'By ear: where the accompaniment drags, move right; where it rushes, move left.',
  budget: 'What the time is needed for',
  play: 'Play', keySpace: 'Space', mute: 'Mute', freeze: 'Freeze', panic: 'Silence',
  playHint: 'Mute: the accompaniment is silent and goes on unheard. Freeze: it no longer hears you and plays on by itself. Silence: every sound stops at once.',
  beatHint: 'It is told no beat, and plays better with one: tap along (T), or set a tempo below.',
  ahead: 'Ahead by', late: 'Late chunks', gaps: 'Gaps', lostInput: 'Input lost', tick: 'Computing',
  instrument: 'It plays', volume: 'Accompaniment volume',
  music: 'Tempo and chords', tempo: 'Tempo', bpm: 'Beats a minute', perBar: 'Beats a bar', tap: 'Tap',
  countIn: 'Count in, beats:', countBeats: 'Beats of the count-in', click: 'Click while playing, for you to hear',
  metronome: 'Where the model takes the beat from', metronomeBpm: 'It is told this tempo', metronomeFollow: 'It follows the beat that it hears',
  metronomeClock: 'It follows a MIDI clock', metronomeOff: 'It is told no beat', metronomeHeard: 'It hears the beat by itself',
  chords: 'Chords', chartText: 'It is told the chords below', chartFollow: 'It follows the chords that it hears', chartOff: 'It is told no chords', chartHeard: 'It hears the chords by itself',
  chart: 'Chord chart: bars divided by |',
  bars: 'Chord chart, the present bar marked',
  more: 'More dials', modelChoice: 'Model', temperature: 'Temperature (higher: more daring)', seed: 'Seed', seedHint: 'a new one each time',
  record: 'Record', force: 'Play even if it cannot be in time',
  takes: 'Recording', details: 'Details', copy: 'Copy for a bug report', copied: 'Copied.', notCopied: 'The browser refused; select the text below instead.',
  foot: 'Sound goes to this server and nowhere else.',
  dropHere: 'Drop the song here',
  start: 'Start', stop: 'Stop', again: 'Start again',

  // phases: what the pill shows and the screen reader says
  phases: {
    loading: 'Loading', preparing: 'Getting ready', choose: 'Choose a source', opening: 'Opening', ready: 'Ready', measuring: 'Measuring',
    starting: 'Starting', countin: 'Count-in', playing: 'Playing', reconnecting: 'Reconnecting', stopping: 'Stopping',
    refused: 'Refused', full: 'Full', lost: 'Connection lost', ended: 'Ended', interrupted: 'Sound interrupted', blocked: 'Cannot play here',
  },

  // what stands in the way, and its cure
  insecure: host => `Browsers give a page a microphone and live audio only over https or on localhost, and this one is ${host}. Open it through a tunnel (ssh -L 8765:localhost:8765 …, then http://localhost:8765), or have the server use a certificate.`,
  noWorklet: 'This browser lacks AudioWorklet. Use a current Chromium, Firefox (from 114) or Safari (from 15).',
  noMicrophone: 'No microphone was found. Plug one in and choose “Play it myself” again, or try a song file.',
  refusedMicrophone: 'The browser was not allowed to use the microphone. Allow it (the icon beside the address), then choose “Play it myself” again, or try a song file.',
  busyMicrophone: 'The microphone could not be opened; another program may hold it. Close that, then choose “Play it myself” again.',
  interrupted: 'The browser paused the sound, as it does after a call or a locked screen.',
  goOn: 'Continue', tryAgain: 'Try again', hidden: 'The tab is in the background. Sound goes on; should it stutter, keep the tab in front.',
  changedDevice: 'The sound devices have changed. Measure again, so that the accompaniment stays in time.',
  narrow: 'Sound arrives just in time. Measure again, or close other programs.',
  broke: 'The sound of this computer was interrupted. If the accompaniment is no longer in time, stop and measure again.',
  bluetooth: name => `“${name}” looks like a Bluetooth headset: late, and thin once its microphone opens. Use a wired one.`,
  kept: list => `The browser kept on: ${list}. Music may sound gated or change its level. Try another browser, or turn it off in the system’s sound settings.`,
  clip: 'too loud', machine: (name, rate) => `Sound device of the server’s machine: ${name}, ${rate} Hz`,
  badFile: name => `“${name}” cannot be played by this browser. Try WAV, FLAC, MP3, OGG or M4A.`,
  noServer: 'The server does not answer. Is it still running?',
  lost: 'The connection was lost and did not come back. What was recorded is on the server.',
  otherSession: 'The connection came back too late, and the session is over.',
  reconnecting: attempt => `The connection was lost; attempt ${attempt} of 4. Meanwhile it is silent, and what you play is not heard.`,
  ending: (why, seconds) => `${sentence(why)} ${Math.round(seconds)} s are left.`,
  preparing: what => `The server is getting ready. ${sentence(what)}`,
  retry: seconds => `Try again in ${Math.round(seconds)} s.`,
  nothingChosen: 'First choose what it should listen to.',
  refused: why => `Not started: ${sentence(why)}`,
  wouldDrag: ({ model, late, first, guess, behind }) => `${named(model)} would come ${ms(late)} late, since sound takes ${ms(first)} around here${guess ? ', by a guess: measure it' : ''}. A wired interface with short buffers takes less. Or hear it ${ms(behind)} behind what you play, with some to spare.`,
  playBehind: behind => `Play ${ms(behind)} behind`, drags: behind => `It plays ${ms(behind)} behind you.`,
  nearest: nearest => `The nearest that would fit: ${nearest}.`,
  closed: (code, why) => sentence(why) || `The server closed the connection (code ${code}).`, full: why => sentence(why) || 'All places are taken.',

  // measuring
  measuring: 'Hold still: three short bursts of noise …', settling: 'Letting the sound settle …',
  measured: result => [
    result.assumed ? `Sound is assumed to take ${ms(result.first_ms)} around, which is a guess.` : `Sound takes ${ms(result.first_ms)} around.`,
    result.spare_ms === undefined || result.spare_ms === null ? '' : result.spare_ms >= 0
      ? `${named(result.model)} fits, with ${ms(result.spare_ms)} to spare.`
      : `${named(result.model)} would come ${ms(-result.spare_ms)} too late.`,
    !result.assumed && result.first_ms > 150 ? 'That is long: Bluetooth is the likely cause.' : '',
  ].filter(Boolean).join(' '),
  notMeasured: (why, more) => `${sentence(why)} ${more ? 'Try again, or set the time by ear below.' : 'Set the time by ear below.'}`,

  // numbers
  ms,
  sentence,
  seconds: value => `${Math.floor(value / 60)}:${String(Math.floor(value % 60)).padStart(2, '0')}`,
  decibel: value => (value <= -60 ? 'silent' : `${Math.round(value)} dB`),
  percent: value => `${value} %`,
  model: (name, ahead) => (ahead > 0 ? `${name}, ${ms(ahead)} ahead of what it hears` : name),
  anyInstrument: 'whatever it likes', instrumentOf: (name, members) => (members ? `${name} (${members})` : name),
  lacking: what => `${what} (this server lacks the listeners for it)`,
  untold: what => `${what} (this model cannot be told)`,
  noMidi: what => `${what} (this browser lacks WebMIDI)`,
  midiTempo: bpm => `MIDI clock: ${bpm.toFixed(1)} bpm.`, midiWaiting: 'Waiting for a MIDI clock. Press play in the program that sends it: its start is the first beat of a bar, its stop takes the beat away.',
  midiRefused: 'The browser was not allowed to use MIDI.',
  beat: (bar, beat) => `bar ${bar}, beat ${beat}`,
  playingFor: time => `playing for ${time}`, getReady: 'get ready', silent: 'silent: Mute (M) brings the sound back',
  following: bpm => `${Math.round(bpm)} bpm`,
  appliedTo: (what, seconds) => `${what}: heard ${seconds > 0.05 ? `in ${seconds.toFixed(1)} s` : 'from now on'}.`,
  what: { temperature: 'Temperature', mute: 'Mute', freeze: 'Freeze', instrument: 'Instrument', metronome: 'Tempo', chart: 'Chords', panic: 'Silence' },

  // health
  health: { good: 'In time', near: 'Just in time', bad: 'Too late', quiet: '' },
  causes: { device: 'this computer’s sound was late', network: 'the network was late', model: 'the model was late' },
  cause: (word, cause) => `${word}: ${cause}.`,

  // recordings
  names: { 'input.wav': 'What it heard', 'heard.wav': 'Accompaniment', 'mix.wav': 'Mix', 'stem.wav': 'Accompaniment as made', 'report.html': 'Report: plays the files beside it', 'manifest.json': 'Manifest' },
  download: name => `Download ${name}`, size: bytes => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`),
  fetching: 'Fetching the recording …', notFetched: why => `The recording could not be fetched: ${why}`,
  recordedNothing: 'Nothing was recorded.', builtIn: 'Built-in song: C | Am | F | G',
}
