import {
  device,
  type Mechanism,
  mechanismFrom,
  registerMechanism,
  SoftmaxAttention,
} from 'longspan';
import { testDevices } from '../support/devices.js';
import {
  checkCapture,
  checkCausality,
  checkReorder,
  checkStep,
  checkTurns,
  type MechanismCase,
} from '../support/mechanism.js';

/** Every mechanism in the forms that models use; a new one joins here. */
const mechanisms: [string, () => Mechanism, MechanismCase][] = [
  ['softmax', () => new SoftmaxAttention(), {}],
  ['causal softmax', () => new SoftmaxAttention({ causal: true }), {}],
  ['causal softmax, grouped heads', () => new SoftmaxAttention({ causal: true }), { kvHeads: 2 }],
  ['causal softmax, wide values', () => new SoftmaxAttention({ causal: true }), { valueDim: 12 }],
  ['window', () => new SoftmaxAttention({ causal: true, window: 4 }), {}],
  ['softcap and scale', () => new SoftmaxAttention({ causal: true, softcap: 5, scale: 0.3 }), {}],
];

describe.each(mechanisms)('%s', (_, make, options) => {
  test('causality is as declared', () => {
    checkCausality(make(), options);
  });

  test('its configuration makes another like it', () => {
    const config = make().config();
    expect(mechanismFrom(JSON.parse(JSON.stringify(config))).config()).toEqual(config);
  });

  if (!make().decodes || make().causality === 'full') return;

  test.each(['f32', 'f64'] as const)('steps equal the parallel form in %s', (dtype) => {
    checkStep(make(), { ...options, dtype });
  });

  test('states reorder and reset', () => {
    checkReorder(make(), options);
  });

  if (make().rotates) {
    test.each(testDevices())('steps rotate queries and keys on %s', (name) => {
      checkTurns(make(), options, device(name));
    });
  }

  if (!make().capturable) return;

  test.each(testDevices())('a step is recorded once and replayed on %s', (name) => {
    checkCapture(make(), options, device(name));
  });
});

describe('the registry', () => {
  test('unknown names and options are refused', () => {
    expect(() => mechanismFrom({ name: 'none' })).toThrow(/'none'.*'softmax'/);
    expect(() => mechanismFrom({ name: 'softmax', casual: true })).toThrow(/casual.*causal/);
    expect(() => registerMechanism('softmax', () => new SoftmaxAttention())).toThrow(/taken/);
  });
});
