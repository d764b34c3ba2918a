import { Tensor, Module } from 'longspan';
class Classifier extends Module {
  readonly hidden = new Linear(4, 8);
  readonly output = new Linear(8, 2);
  forward(x: Tensor) {
    return this.output.forward(relu(this.hidden.forward(x)));
  }
}
new Classifier().stateDict(); // hidden.weight, hidden.bias, output.weight, output.bias


export {};
